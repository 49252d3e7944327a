//! Unpacking an image, beside the tools by which a user would do it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use spawnery_environment::Store;
use spawnery_environment::archive::UnpackLimits;
use spawnery_environment::oci::{self, FolderFiles};

use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use crate::Failure;
use crate::process;

/// How often each side unpacks it.
const ROUNDS: usize = 5;

/// Layers of the image, as images of languages have them: the system, and what is put onto it.
const LAYERS: usize = 3;

/// Small files of each layer, and their largest size in bytes: with [`LARGE_FILES`] about 150 MB
/// in all.
const SMALL_FILES: usize = 3000;
const SMALL_BYTES_MAX: usize = 16 << 10;

/// Large files of each layer, and their size in bytes.
const LARGE_FILES: usize = 3;
const LARGE_BYTES: usize = 8 << 20;

/// Measures an image of a local OCI layout, into a folder on the same disk, both sides in turn.
pub fn measure(_: &Options) -> Result<Vec<Row>, Failure> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let layout = dir.path().join("image");
    make_image(dir.path(), &layout)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        theirs.push(by_tools(dir.path(), &layout)?);
        ours.push(by_us(&dir.path().join(format!("store-{round}")), &layout)?);
    }
    let row =
        Row::new("unpacking an image of 3 layers", Figure::times(ours), Goal::OfPeerAtMost(1.25))
            .beside("skopeo copy + umoci unpack", Figure::times(theirs))
            .note("both from an OCI layout; ours also syncs to the disk and hashes every file");
    Ok(vec![row])
}

fn by_us(store: &Path, layout: &Path) -> Result<Duration, Failure> {
    // What the others left to be written is not ours to wait for.
    process::run(&mut Command::new("sync"))?;
    let start = Instant::now();
    let opened = Store::open(store, u64::MAX).map_err(|error| error.to_string())?;
    let files = FolderFiles::new(layout).map_err(|error| error.to_string())?;
    let image = oci::import(&opened, &files, None, UnpackLimits::default());
    let image = image.map_err(|error| error.to_string())?;
    let time = start.elapsed();
    if image.layers.len() != LAYERS {
        return Err(format!("the image has {} layers", image.layers.len()));
    }
    drop((image, opened));
    fs::remove_dir_all(store).map_err(|error| error.to_string())?;
    Ok(time)
}

fn by_tools(dir: &Path, layout: &Path) -> Result<Duration, Failure> {
    let (copy, bundle) = (dir.join("copy"), dir.join("bundle"));
    process::run(&mut Command::new("sync"))?;
    let start = Instant::now();
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet"]);
    skopeo.arg(format!("oci:{}:latest", layout.display()));
    process::run(skopeo.arg(format!("oci:{}:latest", copy.display())))?;
    let mut umoci = Command::new("umoci");
    umoci.args(["--log", "error", "unpack", "--image"]);
    process::run(umoci.arg(format!("{}:latest", copy.display())).arg(&bundle))?;
    let time = start.elapsed();
    for folder in [copy, bundle] {
        fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
    }
    Ok(time)
}

/// Makes the image by the same tools.
fn make_image(dir: &Path, layout: &Path) -> Result<(), Failure> {
    let image = format!("{}:latest", layout.display());
    process::run(Command::new("umoci").arg("init").arg("--layout").arg(layout))?;
    process::run(Command::new("umoci").args(["new", "--image", &image]))?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for layer in 0..LAYERS {
        let folder = dir.join(format!("layer-{layer}"));
        fill(&folder, &mut noise).map_err(|error| format!("cannot make an image: {error}"))?;
        let mut umoci = Command::new("umoci");
        umoci.args(["--log", "error", "insert", "--image", &image]);
        process::run(umoci.arg(&folder).arg(format!("/layer-{layer}")))?;
        fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn fill(folder: &Path, noise: &mut Noise) -> std::io::Result<()> {
    for number in 0..SMALL_FILES {
        let below = folder.join(format!("part-{}", number % 100));
        fs::create_dir_all(&below)?;
        let size = noise.next() as usize % SMALL_BYTES_MAX;
        noise.write(&below.join(format!("file-{number}")), size)?;
    }
    for number in 0..LARGE_FILES {
        noise.write(&folder.join(format!("large-{number}")), LARGE_BYTES)?;
    }
    Ok(())
}

/// Numbers that are the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Words of a small vocabulary: they shrink to a third, as programs and texts do.
    fn write(&mut self, path: &Path, size: usize) -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut written = 0;
        while written < size {
            let number = self.next();
            let word = format!("{:x} word-{} ", number >> 40, number % 50);
            file.write_all(word.as_bytes())?;
            written += word.len();
        }
        file.flush()
    }
}
