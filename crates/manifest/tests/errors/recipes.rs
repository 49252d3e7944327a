//! Recipes of environments that cannot be.

use crate::{web, yaml};

/// Checks a field of a recipe; it stands on line 3 from column 5.
fn recipe(field: &str, expected: &str) {
    let text = format!("environments:\n  tools:\n    {field}\nservices: {{web: {{run: x}}}}\n");
    yaml(&text, expected);
}

/// Checks a field of a recipe inside a workload.
fn inline(field: &str, expected: &str) {
    web(&format!("environment: {{{field}}}"), expected);
}

#[test]
fn impossible_bases_are_refused() {
    recipe(
        "base: debian",
        "line 3, column 11: environments.tools.base: found the text `debian`; expected \
         `host`, or a map with one of `image`, `debian` and `directory` (write {image: \
         debian})",
    );
    recipe(
        "base: ./root",
        "line 3, column 11: environments.tools.base: found the text `./root`; expected \
         `host`, or a map with one of `image`, `debian` and `directory` (write \
         {directory: ./root})",
    );
    recipe(
        "base: [host]",
        "line 3, column 11: environments.tools.base: found a list; expected `host`, or a \
         map with one of `image`, `debian` and `directory`",
    );
    recipe(
        "base: {}",
        "line 3, column 11: environments.tools.base: a base without a kind; expected one \
         of `image`, `debian` and `directory`",
    );
    recipe(
        "base: {image: a, debian: bookworm}",
        "line 3, column 11: environments.tools.base: a base of several kinds; expected \
         one of `image`, `debian` and `directory`",
    );
    recipe(
        "base: {image: Debian}",
        "line 3, column 19: environments.tools.base.image: `Debian` is no image; expected \
         an image such as debian:bookworm, or a path such as ./app.tar (names of images \
         are in lower case)",
    );
    recipe(
        r#"base: {image: "https://example.org/app"}"#,
        "line 3, column 19: environments.tools.base.image: an image's name with the \
         scheme `https`; expected an image such as debian:bookworm, or a path such as \
         ./app.tar (write example.org/app)",
    );
    recipe(
        r#"base: {image: "app@sha256:00"}"#,
        "line 3, column 19: environments.tools.base.image: `app@sha256:00` with a wrong \
         digest; expected an image such as debian:bookworm, or a path such as ./app.tar \
         (a digest is `sha256:` and 64 hexadecimal digits)",
    );
    recipe(
        "base: {image: 5}",
        "line 3, column 19: environments.tools.base.image: found the number `5`; expected \
         an image such as debian:bookworm, or a path",
    );
    recipe(
        "base: {image: ./app.tar, credentials: registry}",
        "line 3, column 43: environments.tools.base.credentials: credentials for what \
         needs none; expected `credentials` beside an `image` of a registry",
    );
    recipe(
        "base: {debian: bookworm, credentials: registry}",
        "line 3, column 43: environments.tools.base.credentials: credentials for what \
         needs none; expected `credentials` beside an `image` of a registry",
    );
    recipe(
        r#"base: {image: app, credentials: "user:s3cret"}"#,
        "line 3, column 37: environments.tools.base.credentials: text that is not the \
         name of a secret; expected the name of a secret, such as registry (keep the \
         value by `spawnery secret set NAME`)",
    );
    recipe(
        "base: {debian: 12}",
        "line 3, column 20: environments.tools.base.debian: found the number `12`; \
         expected the name of a Debian release, such as bookworm (write bookworm)",
    );
    recipe(
        "base: {debian: Bookworm}",
        "line 3, column 20: environments.tools.base.debian: `Bookworm` is no Debian \
         release; expected the name of a Debian release, such as bookworm (write \
         bookworm)",
    );
    recipe(
        r#"base: {debian: "a b"}"#,
        "line 3, column 20: environments.tools.base.debian: `a b` is no Debian release; \
         expected the name of a Debian release, such as bookworm",
    );
    recipe(
        "base: {directory: ~}",
        "line 3, column 23: environments.tools.base.directory: found nothing; expected a \
         path from the manifest's folder, such as ./app",
    );
    recipe(
        r#"base: {directory: ""}"#,
        "line 3, column 23: environments.tools.base.directory: found empty text; expected \
         a path from the manifest's folder, such as ./app",
    );
    recipe(
        r#"base: {directory: "~/root"}"#,
        "line 3, column 23: environments.tools.base.directory: `~/root` with a `~`, which \
         only shells know; expected a path from the manifest's folder, such as ./app \
         (write the path out)",
    );
    recipe(
        "base: {directory: {tree: x}}",
        "line 3, column 30: environments.tools.base.directory.tree: found the text `x`; \
         expected 64 hexadecimal digits in lower case",
    );
    recipe(
        "base: {directory: {path: ./root, tree: x}}",
        "line 3, column 44: environments.tools.base.directory.tree: found the text `x`; \
         expected 64 hexadecimal digits in lower case",
    );
}

#[test]
fn impossible_packages_are_refused() {
    recipe(
        "packages: [git]",
        "line 3, column 15: environments.tools.packages: found a list; expected a map \
         with `apt`",
    );
    recipe(
        "packages: {pip: [a]}",
        "line 3, column 16: environments.tools.packages.pip: unknown field `pip`; \
         expected one of apt (write `python: {packages: […]}` beside `packages`)",
    );
    recipe(
        "packages: {apt: git}",
        "line 3, column 21: environments.tools.packages.apt: found text; expected a list \
         of Debian packages (write for example [git, curl])",
    );
    recipe(
        "packages: {apt: [Git]}",
        "line 3, column 22: environments.tools.packages.apt[0]: `Git` is no Debian \
         package; expected a Debian package such as git or git=1:2.39.5-0",
    );
    recipe(
        "packages: {apt: [git curl]}",
        "line 3, column 22: environments.tools.packages.apt[0]: `git curl` is no Debian \
         package; expected a Debian package such as git or git=1:2.39.5-0 (write each \
         package apart)",
    );
    recipe(
        "packages: {apt: [git, git=1]}",
        "line 3, column 27: environments.tools.packages.apt[1]: `git` is given twice; \
         expected each package once",
    );
    recipe(
        r#"packages: {apt: ["-oX=y"]}"#,
        "line 3, column 22: environments.tools.packages.apt[0]: `-oX=y` is no Debian \
         package; expected a Debian package such as git or git=1:2.39.5-0",
    );
}

#[test]
fn impossible_python_environments_are_refused() {
    recipe(
        "python: [requests]",
        "line 3, column 13: environments.tools.python: found a list; expected a map with \
         `packages` (write {packages: […]})",
    );
    recipe(
        r#"python: {version: ">=3.11"}"#,
        "line 3, column 23: environments.tools.python.version: `>=3.11` is no version; \
         expected a version such as 3.11 or 3.11.2 (write the version alone; the lock \
         pins it)",
    );
    recipe(
        "python: {version: 3.11.2.1}",
        "line 3, column 23: environments.tools.python.version: `3.11.2.1` is no version; \
         expected a version such as 3.11 or 3.11.2",
    );
    recipe(
        "python: {packages: requests}",
        "line 3, column 24: environments.tools.python.packages: found text; expected a \
         list of requirements (write for example [requests])",
    );
    recipe(
        r#"python: {packages: ["--index-url x"]}"#,
        "line 3, column 25: environments.tools.python.packages[0]: the option \
         `--index-url x` of another tool; expected a requirement such as requests or \
         requests>=2.31 (options such as the index have fields of their own)",
    );
    recipe(
        "python: {packages: [./app]}",
        "line 3, column 25: environments.tools.python.packages[0]: the path `./app`; \
         expected a requirement such as requests or requests>=2.31 (put the folder in by \
         `directories` and install it in `build`)",
    );
    recipe(
        r#"python: {packages: ["a @ https://u:s3cret@h/a.whl"]}"#,
        "line 3, column 25: environments.tools.python.packages[0]: a URL with credentials \
         in it; expected a requirement such as requests or requests>=2.31 (put them into \
         a secret, and name it as `credentials`)",
    );
    recipe(
        r#"python: {packages: ["$(x)"]}"#,
        "line 3, column 25: environments.tools.python.packages[0]: `$(x)` is no \
         requirement; expected a requirement such as requests or requests>=2.31",
    );
    recipe(
        r#"python: {index: "https://u:s3cret@example.org/simple"}"#,
        "line 3, column 21: environments.tools.python.index: a URL with credentials in \
         it; expected a URL such as https://pypi.example.org/simple (put them into a \
         secret, and name it as `credentials`)",
    );
    recipe(
        r#"python: {index: "ftp://example.org"}"#,
        "line 3, column 21: environments.tools.python.index: the scheme `ftp`; expected a \
         URL such as https://pypi.example.org/simple",
    );
    recipe(
        "python: {credentials: index}",
        "line 3, column 13: environments.tools.python: credentials without an index; \
         expected `index` (the public index needs no credentials)",
    );
    recipe(
        "python: {requirements: [a]}",
        "line 3, column 28: environments.tools.python.requirements: found a list; \
         expected a path from the manifest's folder, such as ./app",
    );
}

#[test]
fn impossible_sources_are_refused() {
    recipe(
        r#"source: """#,
        "line 3, column 13: environments.tools.source: `` is no URL; expected a URL that \
         starts with https://, ssh:// or file://",
    );
    recipe(
        r#"source: "git@example.org:team/app""#,
        "line 3, column 13: environments.tools.source: `git@example.org:team/app` is no \
         URL; expected a URL that starts with https://, ssh:// or file:// (write \
         ssh://git@example.org/team/app)",
    );
    recipe(
        r#"source: "git+https://example.org/app""#,
        "line 3, column 13: environments.tools.source: the scheme `git+https`; expected a \
         URL that starts with https://, ssh:// or file:// (write \
         https://example.org/app)",
    );
    recipe(
        r#"source: "ext::sh""#,
        "line 3, column 13: environments.tools.source: `ext::sh` is no URL; expected a \
         URL that starts with https://, ssh:// or file://",
    );
    recipe(
        "source: {branch: main}",
        "line 3, column 13: environments.tools.source: no `git`; expected the \
         repository's URL as `git`",
    );
    recipe(
        "source: {url: x}",
        "line 3, column 14: environments.tools.source.url: unknown field `url`; expected \
         one of git, branch, tag, commit, credentials, to (did you mean `git`?)",
    );
    recipe(
        r#"source: {git: "https://example.org/a", branch: main, tag: v1}"#,
        "line 3, column 13: environments.tools.source: more than one of `branch`, `tag` \
         and `commit`; expected one of them",
    );
    recipe(
        r#"source: {git: "https://example.org/a", branch: "a..b"}"#,
        "line 3, column 52: environments.tools.source.branch: `a..b` is no branch or tag; \
         expected a name such as main or v1.2",
    );
    recipe(
        r#"source: {git: "https://example.org/a", branch: "-x"}"#,
        "line 3, column 52: environments.tools.source.branch: `-x` is no branch or tag; \
         expected a name such as main or v1.2",
    );
    recipe(
        r#"source: {git: "https://example.org/a", commit: 12ab}"#,
        "line 3, column 52: environments.tools.source.commit: `12ab` is no commit; \
         expected the full id of a commit: 40 hexadecimal digits (`git rev-parse ID` \
         shows all of it)",
    );
    recipe(
        r#"source: {git: "https://example.org/a", commit: HEAD}"#,
        "line 3, column 52: environments.tools.source.commit: `HEAD` is no commit; \
         expected the full id of a commit: 40 hexadecimal digits (`git rev-parse ID` \
         shows all of it)",
    );
    recipe(
        r#"source: {git: "https://example.org/a", to: srv}"#,
        "line 3, column 48: environments.tools.source.to: `srv` is not absolute; expected \
         an absolute path such as /etc/app.conf (write `/srv`)",
    );
    recipe(
        r#"source: {git: "https://example.org/a", to: /proc/x}"#,
        "line 3, column 48: environments.tools.source.to: `/proc/x` lies in `/proc`, \
         which Spawnery fills; expected a path elsewhere, such as /srv/app",
    );
    recipe(
        r#"source: {git: "https://s3cret@example.org/a"}"#,
        "line 3, column 19: environments.tools.source.git: a URL with credentials in it; \
         expected a URL that starts with https://, ssh:// or file:// (put them into a \
         secret, and name it as `credentials`)",
    );
}

#[test]
fn impossible_files_are_refused() {
    recipe(
        "files: ./a",
        "line 3, column 12: environments.tools.files: found the text `./a`; expected a \
         map such as {/srv/app: ./app}, or a list of maps",
    );
    recipe(
        "files: [./a]",
        "line 3, column 13: environments.tools.files[0]: found the text `./a`; expected a \
         map with `from` and `to` (write {from: ./a, to: /srv/a})",
    );
    recipe(
        "files: [{from: ./a}]",
        "line 3, column 13: environments.tools.files[0]: a file or folder without `from` \
         or without `to`; expected both `from` and `to`",
    );
    recipe(
        "files: {srv/a: ./a}",
        "line 3, column 13: environments.tools.files.\"srv/a\": `srv/a` is not absolute; \
         expected an absolute path such as /etc/app.conf (write `/srv/a`)",
    );
    recipe(
        "files: {/a: [./a]}",
        "line 3, column 17: environments.tools.files.\"/a\": found a list; expected a \
         path from the manifest's folder, such as ./app",
    );
    recipe(
        "files: {/dev/a: ./a}",
        "line 3, column 13: environments.tools.files.\"/dev/a\": `/dev/a` lies in `/dev`, \
         which Spawnery fills; expected a path elsewhere, such as /srv/app",
    );
    recipe(
        "files: {/run/secrets/a: ./a}",
        "line 3, column 13: environments.tools.files.\"/run/secrets/a\": `/run/secrets/a` \
         lies in `/run/secrets`, which Spawnery fills; expected a path elsewhere, such \
         as /srv/app",
    );
    recipe(
        "files: {/a: ./a, /a/b: ./b}",
        "line 3, column 22: environments.tools.files: `/a` is a file and a folder; \
         expected paths that can stand together",
    );
    recipe(
        "files: [{from: ./a, to: /a}, {from: ./b, to: /a}]",
        "line 3, column 50: environments.tools.files: two things are put at `/a`; \
         expected each target once",
    );
}

#[test]
fn impossible_builds_and_locks_are_refused() {
    recipe(
        "build: {}",
        "line 3, column 12: environments.tools.build: found a map; expected a list of \
         shell commands, or a single line",
    );
    recipe(
        r#"build: [""]"#,
        "line 3, column 13: environments.tools.build[0]: found an empty command; expected \
         a shell command",
    );
    recipe(
        "build: [1]",
        "line 3, column 13: environments.tools.build[0]: found the number `1`; expected a \
         shell command (put quotes round it to make it text)",
    );
    recipe(
        r#"build: """#,
        "line 3, column 12: environments.tools.build: found an empty command; expected a \
         shell command",
    );
    recipe(
        r#"build_network: "yes""#,
        "line 3, column 20: environments.tools.build_network: found the text `yes`; \
         expected true or false (write true)",
    );
    recipe(
        "image: debian",
        "line 3, column 5: environments.tools.image: unknown field `image`; expected one \
         of base, packages, python, source, files, directories, build, build_network, \
         lock (write `base: {image: …}`)",
    );
    recipe(
        "apt: [git]",
        "line 3, column 5: environments.tools.apt: unknown field `apt`; expected one of \
         base, packages, python, source, files, directories, build, build_network, lock \
         (write `packages: {apt: […]}`)",
    );
    recipe(
        "GREETING: hello",
        "line 3, column 5: environments.tools.GREETING: unknown field `GREETING`; \
         expected one of base, packages, python, source, files, directories, build, \
         build_network, lock (variables go into `env` of the workload)",
    );
    recipe(
        "run: x",
        "line 3, column 5: environments.tools.run: unknown field `run`; expected one of \
         base, packages, python, source, files, directories, build, build_network, lock \
         (`run` belongs to the workload, beside `environment`)",
    );
    recipe(
        "lock: {}",
        "line 3, column 11: environments.tools.lock: a lock without `recipe`; expected \
         what the lock is of (make it anew by `spawnery environment lock`)",
    );
    recipe(
        "lock: {recipe: x, image: y}",
        "line 3, column 30: environments.tools.lock.image: found the text `y`; expected \
         `sha256:` and 64 hexadecimal digits in lower case",
    );
    recipe(
        "lock: {recipe: x, commit: y}",
        "line 3, column 31: environments.tools.lock.commit: `y` is no commit; expected \
         the full id of a commit: 40 hexadecimal digits",
    );
    recipe(
        "lock: {recipe: x, apt: [{name: a}]}",
        "line 3, column 29: environments.tools.lock.apt[0]: half a package; expected \
         `name`, `version`, `architecture` and `sha256`",
    );
    recipe(
        r#"lock: {recipe: x, requirements: ["-r x"]}"#,
        "line 3, column 38: environments.tools.lock.requirements[0]: `-r x` is no \
         requirement; expected a requirement with its hashes, in one line",
    );
}

#[test]
fn impossible_recipes_inside_workloads_are_refused() {
    inline(
        "name: A b",
        "line 4, column 25: services.web.environment.name: `A b` is not a name: a name \
         has lower-case letters, digits and hyphens only, not 'A'; expected lower-case \
         letters, digits and hyphens, such as web-1 (write `a-b`)",
    );
    inline(
        "GREETING: hello",
        "line 4, column 19: services.web.environment.GREETING: unknown field `GREETING`; \
         expected one of base, packages, python, source, files, directories, build, \
         build_network, lock, name (variables go into `env` of the workload)",
    );
    inline(
        "image: debian",
        "line 4, column 19: services.web.environment.image: unknown field `image`; \
         expected one of base, packages, python, source, files, directories, build, \
         build_network, lock, name (write `base: {image: …}`)",
    );
}
