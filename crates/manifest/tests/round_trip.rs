//! What instances find around them is written as JSON and read back.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use spawnery_manifest::{Format, parse};
use spawnery_model::{
    Base, Bytes, ContentDigest, Egress, EgressRule, Environment, EnvironmentFile, EnvironmentLock,
    GitReference, HostMount, Local, LockedPackage, Name, Network, Python, RuntimeKind, SecretUse,
    Source, Surroundings, User, VolumeMount,
};
use std::net::{Ipv4Addr, Ipv6Addr};

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9-]{0,9}[a-z0-9]".prop_map(|text| Name::new(text).expect("it is a name"))
}

fn digest() -> impl Strategy<Value = ContentDigest> {
    any::<[u8; 32]>().prop_map(ContentDigest::from_bytes)
}

fn local() -> impl Strategy<Value = Local> {
    let path = prop_oneof!["\\./[a-z .'\"\\\\]{0,9}x", "\\.\\./[a-z]{1,9}", "/[a-z]{1,9}"];
    (path, option::of(digest())).prop_map(|(path, tree)| Local { path, tree })
}

fn base() -> impl Strategy<Value = Base> {
    let reference = prop::sample::select(vec!["debian:bookworm", "localhost:5000/team/app"]);
    prop_oneof![
        Just(Base::Host),
        (reference, option::of(name())).prop_map(|(reference, credentials)| Base::Image {
            reference: reference.to_owned(),
            credentials
        }),
        local().prop_map(Base::ImageFile),
        "[a-z]{1,9}".prop_map(|suite| Base::Debian { suite }),
        local().prop_map(Base::Directory),
    ]
}

fn python() -> impl Strategy<Value = Python> {
    let version = option::of(prop::sample::select(vec!["3", "3.10", "3.11.2"]));
    let packages = vec("[a-z]{1,9}(>=[0-9]\\.[0-9])?", 0..3);
    let index = option::of((Just("https://pypi.example.org/simple"), option::of(name())));
    (version, packages, option::of(local()), index).prop_map(
        |(version, packages, requirements, index)| Python {
            version: version.map(str::to_owned),
            packages,
            requirements,
            index: index.as_ref().map(|(url, _)| (*url).to_owned()),
            credentials: index.and_then(|(_, credentials)| credentials),
        },
    )
}

fn source() -> impl Strategy<Value = Source> {
    let reference = prop_oneof![
        Just(GitReference::Default),
        "[a-z]{1,9}(/[a-z0-9]{1,9})?".prop_map(GitReference::Branch),
        "v[0-9]\\.[0-9]".prop_map(GitReference::Tag),
        "[0-9a-f]{40}".prop_map(GitReference::Commit),
    ];
    let git = prop::sample::select(vec!["https://example.org/a.git", "ssh://git@example.org/a"]);
    (git, reference, option::of(name())).prop_map(|(git, reference, credentials)| Source {
        git: git.to_owned(),
        reference,
        credentials,
        to: "/srv/source".to_owned(),
    })
}

fn lock() -> impl Strategy<Value = EnvironmentLock> {
    let package = ("[a-z]{2,9}", "[0-9]:[0-9]\\.[0-9]+", digest());
    let package = package.prop_map(|(name, version, sha256)| LockedPackage {
        name,
        version,
        architecture: "amd64".to_owned(),
        sha256: sha256.into(),
    });
    let requirement = "[a-z]{1,9}==[0-9] --hash=sha256:[0-9a-f]{64}";
    (digest(), option::of(digest()), vec(package, 0..4), vec(requirement, 0..3)).prop_map(
        |(recipe, image, apt, requirements)| EnvironmentLock {
            recipe: recipe.into(),
            image: image.map(|digest| format!("sha256:{digest}")),
            base: apt.iter().skip(2).cloned().collect(),
            apt: apt.into_iter().take(2).collect(),
            python: None,
            requirements,
            commit: None,
        },
    )
}

fn environment() -> impl Strategy<Value = Environment> {
    let files = btree_map("/opt/[a-z]{1,9}", (local(), any::<bool>()), 0..3).prop_map(|files| {
        let files = files.into_iter();
        files.map(|(to, (from, directory))| EnvironmentFile { from, to, directory }).collect()
    });
    let apt = btree_set("[a-z]{2,9}(=[0-9]\\.[0-9])?", 0..2).prop_filter("each once", |apt| {
        let names: Vec<_> = apt.iter().map(|it| it.split('=').next()).collect();
        names.windows(2).all(|pair| pair[0] != pair[1])
    });
    let build = vec("[a-z '\"\\\\\n$|]{0,9}x", 0..3);
    (
        (option::of(name()), base(), apt, option::of(python()), option::of(source())),
        (files, build, any::<bool>(), option::of(lock())),
    )
        .prop_map(
            |((name, base, apt, python, source), (files, build, build_network, lock))| {
                Environment {
                    name,
                    base,
                    apt: apt.into_iter().collect(),
                    python,
                    source,
                    files,
                    build,
                    build_network,
                    lock,
                }
            },
        )
}

fn egress() -> impl Strategy<Value = Egress> {
    let v4 = any::<[u8; 4]>().prop_map(|bytes| format!("{}/32", Ipv4Addr::from(bytes)));
    let v6 = any::<[u8; 16]>().prop_map(|bytes| format!("{}/128", Ipv6Addr::from(bytes)));
    let wide = prop::sample::select(vec!["10.0.0.0/8", "::/0", "0.0.0.0/0", "2001:db8::/32"]);
    let block = prop_oneof![v4, v6, wide.prop_map(str::to_owned)];
    let ports = (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let rule = (any::<bool>(), block, option::of(ports));
    let rule = rule.prop_map(|(allow, block, ports)| EgressRule { allow, block, ports });
    let names = option::of(vec("(\\*\\.)?[a-z]{1,9}\\.org", 0..3));
    (vec(rule, 0..4), names, any::<bool>(), option::of(1..1u64 << 50)).prop_map(
        |(rules, names, deny_by_default, transfer_max)| Egress {
            rules,
            names,
            deny_by_default,
            transfer_max: transfer_max.map(Bytes),
        },
    )
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    let runtime =
        prop::sample::select(vec![RuntimeKind::Process, RuntimeKind::Oci, RuntimeKind::Docker]);
    let user = option::of((0..=65_534u32, 0..=65_534u32));
    let flags = (any::<bool>(), any::<bool>());
    let volumes = btree_map(name(), flags, 0..3).prop_map(|volumes| {
        let volumes = volumes.into_iter();
        let volume = |(name, (exclusive, read_only))| VolumeMount {
            path: format!("/srv/{name}"),
            name,
            exclusive,
            read_only,
        };
        volumes.map(volume).collect()
    });
    let secrets = btree_map(name(), option::of("S_[A-Z0-9]{5,9}"), 0..2).prop_map(|secrets| {
        secrets.into_iter().map(|(name, variable)| SecretUse { name, variable }).collect::<Vec<_>>()
    });
    let secrets = secrets.prop_filter("each variable once", |secrets| {
        secrets.len() < 2 || secrets[0].variable != secrets[1].variable
    });
    let mounts = btree_map("/mnt/[a-z]{1,9}", any::<bool>(), 0..3).prop_map(|mounts| {
        let mounts = mounts.into_iter();
        mounts.map(|(to, read_only)| HostMount { from: to.clone(), to, read_only }).collect()
    });
    let devices = btree_set("/dev/[a-z]{1,9}", 0..3);
    (
        (option::of(environment()), runtime, user, volumes, secrets),
        (devices, mounts, egress(), 0..=256u32),
    )
        .prop_map(|((environment, runtime, user, volumes, secrets), rest)| {
            let (devices, mounts, egress, warm) = rest;
            Surroundings {
                environment: environment.map(Box::new),
                runtime,
                user: user.map(|(uid, gid)| User { uid, gid }),
                volumes,
                secrets,
                devices: devices.into_iter().collect(),
                mounts,
                egress,
                warm,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn surroundings_are_written_and_read_back(around in surroundings(), is_named: bool) {
        let text = r#"{"services": {"web": {"run": ["x"]}}}"#;
        let mut manifest = parse(text, Format::Json).expect("it is right");
        let environment = around.environment.as_deref().filter(|it| it.name.is_some() && is_named);
        manifest.environments.extend(environment.cloned());
        let workload = &mut manifest.workloads[0];
        workload.process.network = Network::Private;
        let is_default = around == Surroundings::default();
        workload.surroundings = (!is_default).then(|| Box::new(around));
        let json = manifest.to_json();
        let again = parse(&json, Format::Json);
        prop_assert!(again.is_ok(), "{:?}\n{}", again, json);
        let again = again.expect("it was just looked at");
        prop_assert_eq!(&again.workloads, &manifest.workloads);
        prop_assert_eq!(&again.environments, &manifest.environments);
        prop_assert_eq!(again.to_json(), json);
    }
}
