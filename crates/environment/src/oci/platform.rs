//! The platform of this machine, in the words of images.

/// The architecture, as Go names it, which images use.
pub const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    b"x86" => "386",
    b"powerpc64" => "ppc64le",
    b"loongarch64" => "loong64",
    _ => std::env::consts::ARCH,
};

/// The variant of the architecture that is looked for first.
pub const VARIANT: Option<&str> = match ARCHITECTURE.as_bytes() {
    b"arm64" => Some("v8"),
    b"arm" => Some("v7"),
    _ => None,
};
