//! Environments, surroundings and locks as people write them.

use spawnery_manifest::{Format, LocalKind, LockFile, Manifest, parse};
use spawnery_model::{
    Base, Bytes, ContentDigest, EgressRule, EnvironmentLock, GitReference, LockedPackage, Name,
    RuntimeKind, User, Workload,
};
use std::collections::BTreeMap;

fn read(text: &str) -> Manifest {
    parse(text, Format::Yaml).unwrap_or_else(|errors| panic!("{}", errors.render("m", text)))
}

fn only(text: &str) -> Workload {
    read(text).workloads.pop().expect("there is a workload")
}

const TOOLS: &str = "\
environments:
  tools:
    base: {image: registry.example.org/team/base:1, credentials: registry}
    packages: {apt: [git, curl=8.1-1]}
    python: {version: 3.10, packages: [requests>=2.31], requirements: ./requirements.txt}
    source: {git: https://example.org/team/app.git, tag: v1.2}
    build: make install
    files: {/srv/app.conf: ./app.conf}
    directories: [{from: ../shared, to: /srv}]
services:
  web:
    environment: tools
    run: x
  worker:
    environment: tools
    run: y
";

#[test]
fn a_recipe_is_shared_by_its_name() {
    let manifest = read(TOOLS);
    assert_eq!(manifest.environments.len(), 1);
    let tools = &manifest.environments[0];
    for workload in &manifest.workloads {
        let around = workload.surroundings.as_ref().expect("it has surroundings");
        assert_eq!(around.environment.as_deref(), Some(tools));
    }
    assert_eq!(tools.name.as_ref().map(Name::as_str), Some("tools"));
    assert!(matches!(&tools.base, Base::Image { credentials: Some(name), .. }
        if name.as_str() == "registry"));
    assert_eq!(tools.apt, ["git", "curl=8.1-1"]);
    let python = tools.python.as_ref().expect("it has python");
    assert_eq!(python.version.as_deref(), Some("3.10"));
    let source = tools.source.as_ref().expect("it has a source");
    assert_eq!(source.reference, GitReference::Tag("v1.2".to_owned()));
    assert_eq!(source.to, "/srv/source");
    assert_eq!(tools.build, ["make install"]);
    // What lies deeper is put in later.
    let files = tools.files.iter().map(|file| (file.to.as_str(), file.directory));
    assert_eq!(files.collect::<Vec<_>>(), [("/srv", true), ("/srv/app.conf", false)]);
}

#[test]
fn an_environment_can_say_what_runs() {
    let web = only("services: {web: {environment: {base: {image: nginx}}}}");
    assert!(web.process.run.is_empty());
    let web = only("services: {web: {environment: {base: {image: ./app.tar}}}}");
    assert!(web.process.run.is_empty());
    let errors = parse("services: {web: {environment: {base: host}}}", Format::Yaml);
    let errors = errors.expect_err("nothing runs").to_string();
    assert!(errors.contains("does not say what to run"), "{errors}");
}

#[test]
fn surroundings_that_say_nothing_are_left_out() {
    let web = only(
        "services: {web: {run: x, runtime: process, volumes: [], secrets: [], warm: 0, network: private, egress: {}}}",
    );
    assert_eq!(web.surroundings, None);
}

#[test]
fn short_forms_are_filled_in() {
    let text = "\
services:
  web:
    run: x
    runtime: oci
    user: 33
    volumes: [data, {name: cache, path: /var/cache/app, exclusive: true, read_only: true}]
    secrets: [password, {name: password, variable: PASSWORD}]
    devices: [/dev/kvm]
    mounts: [{from: /mnt/models, to: /srv/models}]
    warm: 4
";
    let around = only(text).surroundings.expect("it has surroundings");
    assert_eq!(around.runtime, RuntimeKind::Oci);
    assert_eq!(around.user, Some(User { uid: 33, gid: 33 }));
    assert_eq!(around.volumes[0].path, "/srv/data");
    assert!(around.volumes[1].exclusive && around.volumes[1].read_only);
    assert_eq!(around.secrets[0].variable, None);
    assert_eq!(around.secrets[1].variable.as_deref(), Some("PASSWORD"));
    assert_eq!((around.devices[0].as_str(), around.warm), ("/dev/kvm", 4));
    assert!(!around.mounts[0].read_only);
}

#[test]
fn an_egress_denies_before_it_allows_and_then_all_else() {
    let egress = |fields: &str| {
        let text = format!("services: {{web: {{run: x, network: private, egress: {fields}}}}}");
        only(&text).surroundings.expect("it has surroundings").egress
    };
    let rule = |allow, block: &str, ports| EgressRule { allow, block: block.to_owned(), ports };
    let both = egress("{allow: [10.0.0.0/8:443], deny: [10.1.0.0/16], transfer: 1G}");
    let expected = [rule(false, "10.1.0.0/16", None), rule(true, "10.0.0.0/8", Some((443, 443)))];
    assert_eq!(both.rules, expected);
    assert_eq!(both.transfer_max, Some(Bytes(1 << 30)));
    assert!(both.deny_by_default);
    assert!(!egress("{deny: [0.0.0.0/0]}").deny_by_default);
    assert!(!egress("{allow: [10.0.0.0/8], default: allow}").deny_by_default);
    assert!(egress("{names: [example.org]}").deny_by_default);
    let ordered = egress("{rules: [\"allow [2001:db8::]/32:80-90\", \"deny ::/0\"]}");
    let expected = [rule(true, "2001:db8::/32", Some((80, 90))), rule(false, "::/0", None)];
    assert_eq!(ordered.rules, expected);
}

#[test]
fn what_lies_beside_the_manifest_is_named_by_its_digest() {
    let manifest = read(TOOLS);
    let locals = manifest.locals.iter().map(|local| (local.path.as_str(), local.kind));
    assert_eq!(
        locals.collect::<Vec<_>>(),
        [
            ("./requirements.txt", LocalKind::File),
            ("./app.conf", LocalKind::File),
            ("../shared", LocalKind::Folder),
        ]
    );
    let digest = |path: &str| ContentDigest::from_bytes([path.len() as u8; 32]);
    let sent = manifest.with_trees(|local| Ok(digest(&local.path))).expect("all can be read");
    assert!(sent.locals.is_empty());
    let again = parse(&sent.to_json(), Format::Json).expect("the JSON form is right");
    assert!(again.locals.is_empty());
    assert_eq!(again.workloads, sent.workloads);
    assert_eq!(again.environments, sent.environments);
    for environment in again.recipes().values() {
        for file in &environment.files {
            assert_eq!(file.from.tree, Some(digest(&file.from.path)));
        }
    }
}

#[test]
fn what_is_missing_beside_the_manifest_is_reported_at_its_place() {
    let errors = read(TOOLS).with_trees(|local| match local.kind {
        LocalKind::Folder => Err("it is not a folder".to_owned()),
        _ => Err("no such file".to_owned()),
    });
    assert_eq!(
        errors.expect_err("nothing is there").to_string(),
        "line 5, column 71: environments.tools.python.requirements: cannot read \
         `./requirements.txt`: no such file; expected a readable file\n\
         line 8, column 28: environments.tools.files.\"/srv/app.conf\": cannot read \
         `./app.conf`: no such file; expected a readable file\n\
         line 9, column 26: environments.tools.directories[0].from: cannot read `../shared`: it \
         is not a folder; expected a readable folder"
    );
}

fn lock() -> EnvironmentLock {
    EnvironmentLock {
        recipe: "0a".repeat(32),
        image: Some(format!("sha256:{}", "1b".repeat(32))),
        apt: vec![LockedPackage {
            name: "git".to_owned(),
            version: "1:2.39.5-0+deb12u2".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: "2c".repeat(32),
        }],
        python: Some("3.11.2".to_owned()),
        requirements: vec![format!("requests==2.31.0 --hash=sha256:{}", "3d".repeat(32))],
        commit: Some("4e".repeat(20)),
        base: vec![LockedPackage {
            name: "base-files".to_owned(),
            version: "12.4".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: "5f".repeat(32),
        }],
    }
}

#[test]
fn a_lock_file_is_read_as_it_is_written() {
    let name = |text: &str| Name::new(text).expect("it is a name");
    let bare = EnvironmentLock { recipe: "x".to_owned(), ..EnvironmentLock::default() };
    let environments = BTreeMap::from([(name("tools"), lock()), (name("app"), bare.clone())]);
    let lock_file = LockFile { environments };
    let text = lock_file.to_toml();
    assert_eq!(LockFile::parse(&text).as_ref(), Ok(&lock_file), "{text}");
    assert!(text.starts_with("# Written by `spawnery environment lock`."));
    let manifest = read(TOOLS).with_locks(&lock_file);
    assert_eq!(manifest.environments[0].lock, Some(lock()));
    let locks = manifest.recipes().into_iter().map(|(name, recipe)| (name.as_str(), &recipe.lock));
    assert_eq!(locks.collect::<Vec<_>>(), [("tools", &Some(lock()))]);
    let again = parse(&manifest.to_json(), Format::Json).expect("the JSON form is right");
    assert_eq!(again.workloads, manifest.workloads);
    // An environment without a name is known by its workload's.
    let inline = read("jobs: {app: {run: x, environment: {build: [a]}}}").with_locks(&lock_file);
    assert_eq!(inline.recipes().into_values().next().map(|recipe| &recipe.lock), Some(&Some(bare)));
}

#[test]
fn a_lock_file_that_cannot_be_read_names_the_place() {
    let check = |text: &str, expected: &str| {
        let errors = LockFile::parse(text).expect_err("the lock file is wrong");
        assert_eq!(errors.to_string(), expected, "{text}");
    };
    check(
        "version = 2\n",
        "line 1, column 11: version: found the number `2`; expected a whole number from 1 to 1",
    );
    check(
        "[environments.a]\nrecipe = \"x\"\ncommit = \"main\"\n",
        "line 3, column 10: environments.a.commit: `main` is no commit; expected the full id of \
         a commit: 40 hexadecimal digits (`git rev-parse ID` shows all of it)",
    );
    check(
        "[environments.a]\n",
        "line 1, column 1: environments.a: a lock without `recipe`; expected what the lock is of \
         (make it anew by `spawnery environment lock`)",
    );
    check(
        "[environments.A]\nrecipe = \"x\"\n",
        "line 1, column 15: environments.A: `A` is not a name: a name has lower-case letters, \
         digits and hyphens only, not 'A'; expected lower-case letters, digits and hyphens, such \
         as web-1 (write `a`)",
    );
    check("x", "line 1, column 2: key with no value, expected `=`; expected valid TOML");
}
