//! Images that are files: an OCI image layout, or an archive of `docker save`.

use std::io::Read;

use serde::Deserialize;

use super::image::{
    Descriptor, Document, Layers, Plan, check, document, for_this_machine, install, parse,
    wrong_digest,
};
use super::{Files, Image, ImageError};
use crate::archive::UnpackLimits;
use crate::content::{digest_of, sha256_of};
use crate::limits::IMAGE_DOCUMENT_BYTES_MAX;
use crate::store::Store;

/// The annotation of an index in a layout that holds an image's tag or name.
const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One image of an archive of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The layers of an image that is files.
struct FileLayers<'a> {
    files: &'a dyn Files,
    names: Vec<String>,
    /// What they should be, in a layout.
    descriptors: Option<Vec<Descriptor>>,
}

/// Puts an image of files into the store. If there are several, `name` says which: a tag, or a
/// name with a tag.
///
/// Takes as long as reading and writing all files does: call it where blocking is allowed.
///
/// # Errors
///
/// When it is no image, one of several and not named, damaged, for another machine, or the disk
/// fails or is full.
pub fn import(
    store: &Store,
    files: &dyn Files,
    name: Option<&str>,
    limits: UnpackLimits,
) -> Result<Image, ImageError> {
    let (plan, mut layers) = match small(files, "index.json")? {
        Some(index) => layout(files, &index, name)?,
        None => match small(files, "manifest.json")? {
            Some(manifest) => saved(files, &manifest, name)?,
            None => {
                let reason = "it has neither an index.json, as an OCI image layout, nor a \
                              manifest.json, as `docker save` writes it";
                return Err(not_an_image(files, reason));
            }
        },
    };
    install(store, &plan, limits, &mut layers)
}

fn layout<'a>(
    files: &'a dyn Files,
    index: &[u8],
    name: Option<&str>,
) -> Result<(Plan, FileLayers<'a>), ImageError> {
    let Document::Index(manifests) = document(index, "index.json of the layout")? else {
        return Err(not_an_image(files, "its index.json is no index"));
    };
    let mut chosen = choose(files, &manifests, name)?.clone();
    // An index may name an index of the same image for several machines.
    for _ in 0..2 {
        let what = "a manifest of the layout";
        let path = blob(&chosen, what)?;
        let bytes = small(files, &path)?.ok_or_else(|| missing(files, &path))?;
        check(&bytes, &chosen, what)?;
        match document(&bytes, what)? {
            Document::Index(manifests) => chosen = for_this_machine(&manifests)?.clone(),
            Document::Manifest { config, layers } => {
                let what = "the configuration in the layout";
                let path = blob(&config, what)?;
                let bytes = small(files, &path)?.ok_or_else(|| missing(files, &path))?;
                check(&bytes, &config, what)?;
                let names: Vec<String> = layers.iter().map(|it| it.digest.clone()).collect();
                let plan = Plan::new(chosen.digest, &bytes, names)?;
                let names = layers.iter().map(|it| blob(it, "a layer of the layout"));
                let names = names.collect::<Result<_, _>>()?;
                return Ok((plan, FileLayers { files, names, descriptors: Some(layers) }));
            }
        }
    }
    Err(not_an_image(files, "an index of it names an index, which names an index"))
}

fn choose<'a>(
    files: &dyn Files,
    manifests: &'a [Descriptor],
    name: Option<&str>,
) -> Result<&'a Descriptor, ImageError> {
    let name_of = |it: &'a Descriptor| it.annotations.get(NAME_ANNOTATION).map(String::as_str);
    if let Some(name) = name {
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        let found = manifests.iter().find(|it| name_of(it) == Some(name));
        let found = found.or_else(|| manifests.iter().find(|it| name_of(it) == Some(tag)));
        return found.ok_or_else(|| {
            let names: Vec<&str> = manifests.iter().filter_map(name_of).collect();
            not_an_image(files, &format!("it has no `{name}`, only: {}", names.join(", ")))
        });
    }
    match manifests {
        [one] => Ok(one),
        several if several.iter().all(|it| it.platform.is_some()) => for_this_machine(several),
        several => {
            let names: Vec<&str> = several.iter().filter_map(name_of).collect();
            let names = names.join(", ");
            Err(not_an_image(files, &format!("it has several images: name one of {names}")))
        }
    }
}

fn saved<'a>(
    files: &'a dyn Files,
    manifest: &[u8],
    name: Option<&str>,
) -> Result<(Plan, FileLayers<'a>), ImageError> {
    let images: Vec<Saved> = parse(manifest, "manifest.json of the archive")?;
    let tags = |it: &Saved| it.repo_tags.clone().unwrap_or_default();
    let is = |it: &&Saved| name.is_some_and(|name| tags(it).iter().any(|tag| tag == name));
    let image = match (name, images.as_slice()) {
        (None, [one]) => one,
        _ => images.iter().find(is).ok_or_else(|| {
            let tags = images.iter().flat_map(tags).collect::<Vec<_>>().join(", ");
            not_an_image(files, &format!("name one of its images: {tags}"))
        })?,
    };
    let config = small(files, &image.config)?.ok_or_else(|| missing(files, &image.config))?;
    // There is no manifest with a digest; the configuration pins the layers too.
    let digest = format!("sha256:{}", digest_of(&config));
    let plan = Plan::new(digest, &config, image.layers.clone())?;
    Ok((plan, FileLayers { files, names: image.layers.clone(), descriptors: None }))
}

impl FileLayers<'_> {
    fn file(&self, index: usize) -> Result<Box<dyn Read + Send>, ImageError> {
        let name = &self.names[index];
        let file = self.files.open(name).map_err(|error| read_error(self.files, name, error))?;
        file.ok_or_else(|| missing(self.files, name))
    }
}

impl Layers for FileLayers<'_> {
    fn open(&mut self, index: usize) -> Result<Box<dyn Read + Send>, ImageError> {
        if let Some(descriptors) = &self.descriptors {
            let expected = &descriptors[index];
            let what = format!("layer {} in {}", index + 1, self.files.what());
            let mut file = self.file(index)?;
            let (hash, found) = sha256_of(&mut *file)
                .map_err(|error| read_error(self.files, &self.names[index], error))?;
            if found != expected.size {
                return Err(ImageError::Size { what, expected: expected.size, found });
            }
            let digest = spawnery_model::ContentDigest::from_bytes(hash);
            let expected = expected.content(&what)?;
            if digest != expected {
                return Err(wrong_digest(&what, &expected, &digest));
            }
        }
        self.file(index)
    }

    fn close(&mut self, _: usize) -> Result<(), ImageError> {
        Ok(())
    }
}

fn blob(descriptor: &Descriptor, what: &str) -> Result<String, ImageError> {
    Ok(format!("blobs/sha256/{}", descriptor.content(what)?))
}

/// Reads a document; `None` if there is none.
fn small(files: &dyn Files, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
    let file = files.open(name).map_err(|error| read_error(files, name, error))?;
    let Some(file) = file else { return Ok(None) };
    let mut bytes = Vec::new();
    let mut limited = file.take(IMAGE_DOCUMENT_BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(|error| read_error(files, name, error))?;
    if bytes.len() as u64 > IMAGE_DOCUMENT_BYTES_MAX {
        return Err(not_an_image(files, &format!("`{name}` is larger than 4 MiB")));
    }
    Ok(Some(bytes))
}

fn read_error(files: &dyn Files, name: &str, error: std::io::Error) -> ImageError {
    ImageError::Read { what: format!("`{name}` of {}", files.what()), error }
}

fn missing(files: &dyn Files, name: &str) -> ImageError {
    not_an_image(files, &format!("`{name}` is missing in it: it is not whole; make it again"))
}

fn not_an_image(files: &dyn Files, reason: &str) -> ImageError {
    ImageError::NotAnImage { what: files.what(), reason: reason.to_owned() }
}
