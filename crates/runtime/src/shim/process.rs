//! What a process is started with, by the rules of the process runtime.

use spawnery_sandbox::accounts::{self, Account};
use spawnery_sandbox::limits::USER_ID;
use spawnery_sandbox::spec::{ExecSpec, LOCALE_DEFAULT, LOCALE_VARIABLES, SandboxSpec, UserSpec};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process is started with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) argv: Vec<String>,
    /// `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    pub(crate) working_directory: String,
    pub(crate) user: UserSpec,
}

/// The user of the main process, as `/etc/passwd` of its root has it.
pub(crate) fn main_account(spec: &SandboxSpec, passwd: &str) -> Account {
    let user = user(spec);
    // The ids are those that were ordered, whatever the root says.
    match accounts::resolve(&user.uid.to_string(), passwd, "") {
        Ok(Account { name, home, .. }) => Account { user, name, home },
        Err(_) => Account { name: user.uid.to_string(), home: "/".to_owned(), user },
    }
}

/// As whom the processes of a sandbox run.
pub(crate) fn user(spec: &SandboxSpec) -> UserSpec {
    let over_host = spec.root.as_ref().is_none_or(|root| root.host);
    let usual = if over_host { USER_ID } else { 0 };
    let default = UserSpec { uid: usual, gid: usual, groups: Vec::new() };
    spec.user.clone().unwrap_or(default)
}

impl Process {
    /// The main process, or the further one `exec`.
    pub(crate) fn new(spec: &SandboxSpec, exec: Option<&ExecSpec>, account: &Account) -> Self {
        let (argv, given, dir) = match exec {
            None => (&spec.argv, &spec.env, &spec.working_directory),
            Some(exec) => (&exec.argv, &exec.env, &exec.working_directory),
        };
        let secret = spec.secret_env.iter().flatten();
        let mut env: Vec<(&str, &str)> = Vec::new();
        let defaults = [
            ("PATH", PATH),
            ("HOME", &account.home),
            ("USER", &account.name),
            ("HOSTNAME", &spec.hostname),
            ("TMPDIR", "/tmp"),
        ];
        let given = given.iter().chain(secret).map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in defaults.into_iter().chain(given) {
            env.retain(|(other, _)| *other != name);
            env.push((name, value));
        }
        if !env.iter().any(|(name, _)| LOCALE_VARIABLES.contains(name)) {
            env.push(LOCALE_DEFAULT);
        }
        let home = env.iter().find(|(name, _)| *name == "HOME").map_or("/", |(_, home)| home);
        Self {
            argv: argv.clone(),
            working_directory: dir.clone().unwrap_or_else(|| home.to_owned()),
            env: env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            user: account.user.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_user_has_the_home_that_the_root_says_or_none() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nx:x:7:8::relative:/bin/sh\n";
        for (uid, name, home) in [(0, "root", "/root"), (7, "x", "/"), (9, "9", "/")] {
            let mut spec = SandboxSpec::new(["true"]);
            let user = UserSpec { uid, gid: 5, groups: vec![6] };
            spec.user = Some(user.clone());
            let (name, home) = (name.to_owned(), home.to_owned());
            assert_eq!(main_account(&spec, passwd), Account { user, name, home });
        }
    }

    #[test]
    fn a_given_variable_takes_the_place_of_a_default() {
        let mut spec = SandboxSpec::new(["true"]);
        spec.env = vec![("HOME".to_owned(), "/work".to_owned())];
        spec.secret_env = Some(vec![("TOKEN".to_owned(), "hunter2".to_owned())]);
        let account = main_account(&spec, "user:x:1000:1000::/home/user:/bin/sh");
        let process = Process::new(&spec, None, &account);
        assert_eq!(process.working_directory, "/work");
        assert_eq!(process.env.iter().filter(|it| it.starts_with("HOME=")).count(), 1);
        assert!(process.env.contains(&"TOKEN=hunter2".to_owned()));
        assert_eq!((process.user.uid, process.user.gid), (1000, 1000));
    }
}
