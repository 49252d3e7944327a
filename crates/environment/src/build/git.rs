//! The step of a source: a checkout of a git repository, made by the node's git.
//!
//! git runs in a sandbox over the view of the host, with the network and one folder to write. It
//! reads no configuration but what is given here, runs no hooks, fetches no submodules and speaks
//! only the protocols listed here. Credentials reach it as a file in memory.

use std::fs;
use std::path::Path;

use spawnery_model::{GitReference, Source};
use spawnery_sandbox::spec::{Network, SandboxSpec, SecretFile};

use super::capture::{copy_in, keep_output};
use super::failure::Failure;
use super::sandboxed::{MOUNTS, Work, at, mount, read_result};
use crate::layer::{Layer, LayerDraft};
use crate::recipe;

/// Most references of a repository that are looked at, in bytes of their list.
const REFERENCES_BYTES_MAX: usize = 16 << 20;

/// Fetches one commit, alone if the server allows that, and checks it out.
const CHECK_OUT: &str = r#"set -eu
umask 022
printf '[safe]\n\tdirectory = *\n' > "$GIT_CONFIG_GLOBAL"
cd "$OUT"
git init --quiet --template= checkout
cd checkout
if ! git fetch --quiet --no-tags --depth=1 -- "$URL" "$COMMIT"; then
    echo "The server does not give single commits; all are fetched."
    git fetch --quiet --no-tags -- "$URL" '+refs/heads/*:refs/fetched/heads/*' \
        '+refs/tags/*:refs/fetched/tags/*'
fi
git -c advice.detachedHead=false checkout --quiet --detach "$COMMIT"
rm -rf .git
"#;

const LIST: &str = r#"set -eu
printf '[safe]\n\tdirectory = *\n' > "$GIT_CONFIG_GLOBAL"
git ls-remote --quiet -- "$URL" > "$OUT/references"
"#;

/// Makes a layer of the commit.
pub(super) fn check_out(
    work: &Work<'_>,
    draft: LayerDraft,
    source: &Source,
    commit: &str,
) -> Result<Layer, Failure> {
    let (_scratch, shared) = work.scratch(spawnery_sandbox::limits::USER_ID)?;
    let mut spec = spec(work, CHECK_OUT, source, &shared)?;
    spec.env.push(("COMMIT".to_owned(), commit.to_owned()));
    drop(work.run_well(spec, "git")?);
    let mut writer = draft.writer().map_err(Failure::of)?;
    let checkout = shared.join("checkout");
    let kind = fs::symlink_metadata(&checkout).map_err(|error| at("look at", &checkout, &error))?;
    if !kind.is_dir() {
        return Err(Failure::new("git made no checkout"));
    }
    copy_in(&mut writer, &checkout, Path::new(&source.to), work.user())?;
    let written = writer.finish().map_err(Failure::of)?;
    keep_output(&draft, &work.output.finish())?;
    draft.commit_written(written).map_err(Failure::of)
}

/// Finds out the commit that a recipe means now.
pub(super) fn resolve(work: &Work<'_>, source: &Source) -> Result<String, Failure> {
    if let GitReference::Commit(commit) = &source.reference {
        return Ok(commit.clone());
    }
    let (_scratch, shared) = work.scratch(spawnery_sandbox::limits::USER_ID)?;
    let spec = spec(work, LIST, source, &shared)?;
    drop(work.run_well(spec, "git")?);
    let list = read_result(&shared, "references", REFERENCES_BYTES_MAX)?;
    find(&String::from_utf8_lossy(&list), &source.reference)
        .map_err(|what| Failure::new(format!("{} has no {what}: correct the recipe", source.git)))
}

/// The commit of a reference in the output of `git ls-remote`.
fn find(list: &str, reference: &GitReference) -> Result<String, String> {
    let names = match reference {
        GitReference::Default => vec!["HEAD".to_owned()],
        GitReference::Branch(name) => vec![format!("refs/heads/{name}")],
        // The first is what an annotated tag points to.
        GitReference::Tag(name) => {
            vec![format!("refs/tags/{name}^{{}}"), format!("refs/tags/{name}")]
        }
        GitReference::Commit(commit) => return Ok(commit.clone()),
    };
    let lines: Vec<(&str, &str)> = list.lines().filter_map(|line| line.split_once('\t')).collect();
    for wanted in &names {
        let found = lines.iter().find(|(_, name)| name == wanted);
        if let Some((commit, _)) = found.filter(|(commit, _)| recipe::is_commit(commit)) {
            return Ok((*commit).to_owned());
        }
    }
    Err(match reference {
        GitReference::Branch(name) => format!("branch `{name}`"),
        GitReference::Tag(name) => format!("tag `{name}`"),
        _ => "default branch".to_owned(),
    })
}

fn spec(
    work: &Work<'_>,
    script: &str,
    source: &Source,
    shared: &Path,
) -> Result<SandboxSpec, Failure> {
    if !["/usr/bin/git", "/usr/local/bin/git", "/bin/git"].iter().any(|it| Path::new(it).exists()) {
        return Err(Failure::new("there is no git on this node: install the package `git`"));
    }
    let mut spec = work.host_spec(["/bin/sh", "-c", script]);
    spec.network = work.settings.fetch_network;
    let out = format!("{MOUNTS}/out");
    mount(&mut spec, shared, &out, false);
    let set = |spec: &mut SandboxSpec, name: &str, value: &str| {
        spec.env.push((name.to_owned(), value.to_owned()));
    };
    set(&mut spec, "OUT", &out);
    set(&mut spec, "URL", &source.git);
    set(&mut spec, "GIT_TERMINAL_PROMPT", "0");
    set(&mut spec, "GIT_CONFIG_NOSYSTEM", "1");
    // For the server's part of a local repository, which gets no variables and belongs to
    // another user here.
    set(&mut spec, "GIT_CONFIG_GLOBAL", "/tmp/gitconfig");
    // Only what the recipe's URL itself is: a server cannot redirect to something else.
    let scheme = source.git.split("://").next().unwrap_or_default();
    set(&mut spec, "GIT_ALLOW_PROTOCOL", scheme);
    let mut config = vec![
        ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
        ("core.autocrlf".to_owned(), "false".to_owned()),
        ("core.attributesFile".to_owned(), "/dev/null".to_owned()),
        ("submodule.recurse".to_owned(), "false".to_owned()),
        ("fetch.recurseSubmodules".to_owned(), "false".to_owned()),
        ("gc.auto".to_owned(), "0".to_owned()),
        ("credential.helper".to_owned(), String::new()),
    ];
    match scheme {
        "file" => add_folder(work, source, &mut spec)?,
        "ssh" => add_key(work, source, &mut spec)?,
        _ => config.extend(add_password(work, source, &mut spec)?),
    }
    set(&mut spec, "GIT_CONFIG_COUNT", &config.len().to_string());
    for (index, (key, value)) in config.iter().enumerate() {
        set(&mut spec, &format!("GIT_CONFIG_KEY_{index}"), key);
        set(&mut spec, &format!("GIT_CONFIG_VALUE_{index}"), value);
    }
    Ok(spec)
}

/// A repository on the node itself, in a folder that the node's configuration allows.
fn add_folder(work: &Work<'_>, source: &Source, spec: &mut SandboxSpec) -> Result<(), Failure> {
    let path = source.git.strip_prefix("file://").unwrap_or_default();
    let refused = || {
        Failure::new(format!(
            "{} is a folder of the node, which its configuration does not allow: use https or \
             ssh",
            source.git
        ))
    };
    let real = fs::canonicalize(path).map_err(|_| refused())?;
    let allowed = |folder: &&std::path::PathBuf| {
        fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder))
    };
    work.settings.git_folders.iter().find(allowed).ok_or_else(refused)?;
    let target = format!("{MOUNTS}/repository");
    mount(spec, &real, &target, true);
    spec.network = Network::None;
    if let Some((_, url)) = spec.env.iter_mut().find(|(name, _)| name == "URL") {
        *url = format!("file://{target}");
    }
    Ok(())
}

/// User and password for the host of the URL, and for no other.
fn add_password(
    work: &Work<'_>,
    source: &Source,
    spec: &mut SandboxSpec,
) -> Result<Vec<(String, String)>, Failure> {
    let Some(name) = &source.credentials else { return Ok(Vec::new()) };
    let secret = work.secrets.text(name).map_err(Failure::new)?;
    // A token alone works with any user name at the usual hosts.
    let (user, password) = secret.split_once(':').unwrap_or(("token", &secret));
    if secret.contains(['\n', '\r']) {
        let reason = format!(
            "the secret `{name}` has several lines, but https needs \
                              USER:PASSWORD or a token"
        );
        return Err(Failure::new(reason));
    }
    add_secret_file(spec, "git", format!("username={user}\npassword={password}\n"));
    let host = source.git.split('/').take(3).collect::<Vec<_>>().join("/");
    let helper = "!f() { test \"$1\" != get || cat /run/secrets/git; }; f".to_owned();
    Ok(vec![(format!("credential.{host}.helper"), helper)])
}

/// A private key, and the host keys that the node's configuration trusts.
fn add_key(work: &Work<'_>, source: &Source, spec: &mut SandboxSpec) -> Result<(), Failure> {
    let mut command = "ssh -F /dev/null -o BatchMode=yes".to_owned();
    if let Some(name) = &source.credentials {
        let key = work.secrets.text(name).map_err(Failure::new)?;
        add_secret_file(spec, "ssh-key", format!("{key}\n"));
        command.push_str(" -o IdentitiesOnly=yes -i /run/secrets/ssh-key");
    }
    if let Some(file) = &work.settings.ssh_known_hosts {
        let target = format!("{MOUNTS}/known_hosts");
        mount(spec, file, &target, true);
        command.push_str(&format!(" -o StrictHostKeyChecking=yes -o UserKnownHostsFile={target}"));
    } else {
        // Nothing is known of the host. What comes from it is still checked: it has to be the
        // commit that the lock names.
        command.push_str(" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null");
    }
    spec.env.push(("GIT_SSH_COMMAND".to_owned(), command));
    Ok(())
}

fn add_secret_file(spec: &mut SandboxSpec, name: &str, text: String) {
    let file = SecretFile { name: name.to_owned(), bytes: text.into_bytes() };
    spec.secret_files.get_or_insert_default().push(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_found_by_its_whole_name() {
        let id = |digit: char| digit.to_string().repeat(40);
        let list = format!(
            "{}\tHEAD\n{}\trefs/heads/main\n{}\trefs/heads/x/main\n{}\trefs/tags/v1\n\
             {}\trefs/tags/v1^{{}}\n{}\trefs/tags/v2\nrubbish\n",
            id('1'),
            id('1'),
            id('2'),
            id('3'),
            id('4'),
            id('5')
        );
        let table = [
            (GitReference::Default, Ok('1')),
            (GitReference::Branch("main".into()), Ok('1')),
            (GitReference::Branch("x/main".into()), Ok('2')),
            (GitReference::Tag("v1".into()), Ok('4')),
            (GitReference::Tag("v2".into()), Ok('5')),
            (GitReference::Branch("gone".into()), Err("branch `gone`")),
            (GitReference::Tag("main".into()), Err("tag `main`")),
        ];
        for (reference, expected) in table {
            let expected = expected.map(id).map_err(str::to_owned);
            assert_eq!(find(&list, &reference), expected, "{reference:?}");
        }
        assert!(find("", &GitReference::Default).is_err());
    }
}
