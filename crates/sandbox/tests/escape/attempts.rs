//! The programs of the attempts, as files of an instance.

/// Where they are in an instance: a folder that no attempt is about.
macro_rules! file {
    ($name:literal) => {
        (concat!("/escape/", $name), include_str!(concat!("attempts/", $name)))
    };
}

/// What is run, with the name of an attempt and what it aims at. By its name processes of attempts
/// are told from others.
pub const PROGRAM: &str = "/escape/escape.py";

/// All files, with their paths in an instance.
pub const FILES: &[(&str, &str)] = &[
    file!("escape.py"),
    file!("attempt.py"),
    file!("bombs.py"),
    file!("devices.py"),
    file!("files.py"),
    file!("kernel.py"),
    file!("mounts.py"),
    file!("network.py"),
    file!("processes.py"),
    file!("rights.py"),
    file!("shared.py"),
];

/// The command of one attempt. Nothing is written beside the programs.
pub fn command(name: &str, aims: &str) -> [String; 5] {
    ["/usr/bin/python3", "-B", PROGRAM, name, aims].map(str::to_owned)
}
