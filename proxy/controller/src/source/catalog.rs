//! The objects of all files, and which one is in force where several documents have the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use tidegate_model::{Level, ObjectRef, Problem, Reason};

use super::document::{self, Chunk, Document};
use super::fault::{Fallback, Place};
use crate::{Change, Object};

/// Files by path, and their objects.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    files: BTreeMap<PathBuf, File>,
    /// Every document that has an object; the first is in force.
    claims: HashMap<ObjectRef, Vec<Claim>>,
    /// Objects with more than one claim.
    contested: BTreeSet<ObjectRef>,
    /// What was in force when changes were last taken, of the objects touched since.
    before: BTreeMap<ObjectRef, Option<Object>>,
    hasher: Hasher,
    next_id: u64,
}

/// One file's last version.
#[derive(Debug, Default)]
struct File {
    documents: Vec<Part>,
    /// Objects of former versions that stay in force, because a document does not parse that may have been theirs.
    kept: Vec<Part>,
    problems: Vec<Problem>,
}

/// A document in a file.
#[derive(Clone, Debug)]
struct Part {
    id: u64,
    key: Key,
    document: Arc<Document>,
}

/// One document's say on an object.
#[derive(Clone, Debug)]
struct Claim {
    path: Arc<Path>,
    part: u64,
    object: Object,
}

/// A document's identity by content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    length: usize,
    hashes: [u64; 2],
}

/// Two hash functions with seeds of this process: fast, and 128 bits wide together.
#[derive(Debug, Default)]
struct Hasher([DefaultHashBuilder; 2]);

impl Hasher {
    fn key(&self, text: &str) -> Key {
        let [first, second] = &self.0;
        Key {
            length: text.len(),
            hashes: [
                first.hash_one(text.as_bytes()),
                second.hash_one((1_u8, text.as_bytes())),
            ],
        }
    }
}

impl Catalog {
    /// Takes a file's text in. Only documents that differ from those of the file's last version are parsed.
    pub(crate) fn read(&mut self, path: &Path, text: &str) {
        let chunks = document::split(text);
        let keys: Vec<_> = chunks
            .iter()
            .map(|chunk| self.hasher.key(chunk.text))
            .collect();
        let mut file = self.files.remove(path).unwrap_or_default();
        let (first, last) = changed_range(&file.documents, &keys);
        let old_end = file.documents.len() - last;
        let new_end = keys.len() - last;
        let cached: HashMap<Key, Arc<Document>> = file.documents[first..old_end]
            .iter()
            .map(|part| (part.key, part.document.clone()))
            .collect();
        let parsed = (first..new_end).map(|at| {
            let cached = cached.get(&keys[at]).cloned();
            let document = cached.unwrap_or_else(|| Arc::new(document::parse(chunks[at].text)));
            (keys[at], document)
        });
        let parts: Vec<_> = parsed
            .map(|(key, document)| self.part(key, document))
            .collect();
        let owner: Arc<Path> = path.into();
        let mut touched = self.claim(&owner, &parts);
        let mut gone: Vec<_> = file.documents.splice(first..old_end, parts).collect();
        gone.append(&mut file.kept);
        touched.extend(self.unclaim(&owner, &gone));
        if file.is_broken() {
            file.kept = self.missing(&owner, gone);
            touched.extend(self.claim(&owner, &file.kept));
        }
        self.settle(&owner, &file, touched);
        file.problems = problems(path, text, &chunks, &file);
        self.files.insert(path.to_owned(), file);
    }

    /// Forgets a file or a folder.
    pub(crate) fn forget(&mut self, path: &Path) {
        let forgotten: Vec<PathBuf> = self.under(path).map(Path::to_owned).collect();
        for path in forgotten {
            if let Some(file) = self.files.remove(&path) {
                let parts = [file.documents, file.kept].concat();
                let owner: Arc<Path> = path.into();
                let touched = self.unclaim(&owner, &parts);
                self.settle(&owner, &File::default(), touched);
            }
        }
    }

    /// Whether the file is known.
    pub(crate) fn knows(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// The known files of a folder, however deep, or the file itself.
    pub(crate) fn under<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a Path> {
        // Paths are ordered by their elements, so those of a folder stand together.
        self.files
            .range::<Path, _>((Bound::Included(folder), Bound::Unbounded))
            .map(|(path, _)| path.as_path())
            .take_while(move |path| path.starts_with(folder))
    }

    /// What is different from the last call, by object.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let before = std::mem::take(&mut self.before);
        let change = |(reference, before): (ObjectRef, Option<Object>)| match (
            before,
            self.in_force(&reference),
        ) {
            (Some(_), None) => Some(Change::Remove(reference)),
            (Some(old), Some(new)) if same(&old, new) => None,
            (_, Some(new)) => Some(Change::Put(new.clone())),
            (None, None) => None,
        };
        before.into_iter().filter_map(change).collect()
    }

    /// Everything that is wrong with the documents, unsorted.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let in_files = self.files.values().flat_map(|file| file.problems.clone());
        in_files.chain(self.duplicates()).collect()
    }

    fn part(&mut self, key: Key, document: Arc<Document>) -> Part {
        self.next_id += 1;
        Part {
            id: self.next_id,
            key,
            document,
        }
    }

    fn in_force(&self, reference: &ObjectRef) -> Option<&Object> {
        let claims = self.claims.get(reference)?;
        claims.first().map(|claim| &claim.object)
    }

    fn touch(&mut self, reference: &ObjectRef) {
        if !self.before.contains_key(reference) {
            let object = self.in_force(reference).cloned();
            self.before.insert(reference.clone(), object);
        }
    }

    /// Enters the documents' objects; their order is left to [`Self::settle`].
    fn claim(&mut self, owner: &Arc<Path>, parts: &[Part]) -> Vec<ObjectRef> {
        let mut touched = Vec::new();
        for part in parts {
            for object in &part.document.objects {
                let reference = object.reference();
                self.touch(&reference);
                touched.push(reference.clone());
                self.claims.entry(reference).or_default().push(Claim {
                    path: owner.clone(),
                    part: part.id,
                    object: object.clone(),
                });
            }
        }
        touched
    }

    fn unclaim(&mut self, owner: &Arc<Path>, parts: &[Part]) -> Vec<ObjectRef> {
        let mut touched = Vec::new();
        for part in parts {
            for object in &part.document.objects {
                let reference = object.reference();
                self.touch(&reference);
                if let Some(claims) = self.claims.get_mut(&reference) {
                    claims.retain(|claim| claim.path != *owner || claim.part != part.id);
                }
                touched.push(reference);
            }
        }
        touched
    }

    /// The objects of former parts that the file no longer has, as parts of their own.
    fn missing(&mut self, owner: &Arc<Path>, gone: Vec<Part>) -> Vec<Part> {
        let mut seen = BTreeSet::new();
        let mut kept = Vec::new();
        for part in gone {
            let mut objects = part.document.objects.clone();
            objects.retain(|object| {
                let reference = object.reference();
                let claims = self.claims.get(&reference);
                let has_claim =
                    claims.is_some_and(|claims| claims.iter().any(|claim| claim.path == *owner));
                !has_claim && seen.insert(reference)
            });
            if !objects.is_empty() {
                let document = Document {
                    objects,
                    faults: Vec::new(),
                };
                kept.push(self.part(Key::default(), Arc::new(document)));
            }
        }
        kept
    }

    /// Puts the claims on the touched objects in order: by path, then by place in the file.
    fn settle(&mut self, owner: &Arc<Path>, file: &File, touched: Vec<ObjectRef>) {
        let mut places: Option<HashMap<u64, usize>> = None;
        for reference in touched {
            let Some(claims) = self.claims.get_mut(&reference) else {
                continue;
            };
            match claims.len() {
                0 => {
                    self.claims.remove(&reference);
                    self.contested.remove(&reference);
                }
                1 => _ = self.contested.remove(&reference),
                _ => {
                    let places = places.get_or_insert_with(|| file.places());
                    let place = |claim: &Claim| match claim.path == *owner {
                        true => places.get(&claim.part).copied(),
                        false => None,
                    };
                    claims
                        .sort_by(|a, b| a.path.cmp(&b.path).then_with(|| place(a).cmp(&place(b))));
                    self.contested.insert(reference);
                }
            }
        }
    }

    fn duplicates(&self) -> Vec<Problem> {
        let mut places: BTreeMap<&Path, HashMap<u64, usize>> = BTreeMap::new();
        let mut problems = Vec::new();
        for reference in &self.contested {
            let claims = self.claims.get(reference).map_or(&[][..], Vec::as_slice);
            let mut stands = claims.iter().map(|claim| {
                let of_file = places.entry(&claim.path).or_insert_with(|| {
                    let file = self.files.get(&*claim.path);
                    file.map(File::places).unwrap_or_default()
                });
                let number = of_file.get(&claim.part).map_or(0, |place| place + 1);
                format!("{} (document {number})", claim.path.display())
            });
            let Some(first) = stands.next() else { continue };
            problems.extend(stands.map(|other| duplicate(reference, &first, &other)));
        }
        problems
    }
}

impl File {
    fn is_broken(&self) -> bool {
        self.documents.iter().any(|part| part.document.is_broken())
    }

    /// Where each part stands.
    fn places(&self) -> HashMap<u64, usize> {
        let parts = self.documents.iter().chain(&self.kept);
        parts.enumerate().map(|(at, part)| (part.id, at)).collect()
    }
}

/// How many documents at the start and at the end are as they were.
fn changed_range(old: &[Part], new: &[Key]) -> (usize, usize) {
    let equal = |(part, key): &(&Part, &Key)| part.key == **key;
    let first = old.iter().zip(new).take_while(equal).count();
    let rest = (&old[first..], &new[first..]);
    let last = rest.0.iter().rev().zip(rest.1.iter().rev());
    (first, last.take_while(equal).count())
}

fn problems(path: &Path, text: &str, chunks: &[Chunk<'_>], file: &File) -> Vec<Problem> {
    let fallback = match file.kept.is_empty() {
        true => Fallback::Nothing,
        false => Fallback::LastGood,
    };
    let mut problems = Vec::new();
    let mut lines = 1;
    let mut counted = 0;
    for (at, (chunk, part)) in chunks.iter().zip(&file.documents).enumerate() {
        if part.document.faults.is_empty() {
            continue;
        }
        lines += memchr::memchr_iter(b'\n', &text.as_bytes()[counted..chunk.offset]).count();
        counted = chunk.offset;
        let place = Place {
            path,
            document: at + 1,
            line: lines,
        };
        let faults = &part.document.faults;
        problems.extend(faults.iter().map(|fault| fault.problem(place, fallback)));
    }
    problems
}

fn duplicate(reference: &ObjectRef, first: &str, other: &str) -> Problem {
    Problem {
        level: Level::Warning,
        object: reference.clone(),
        field: String::new(),
        reason: Reason::DuplicateObject,
        message: format!(
            "the object stands in {first} and again in {other}; the first is in force and the other is ignored; \
             remove one of them"
        ),
    }
}

/// Whether two versions of an object say the same.
fn same(a: &Object, b: &Object) -> bool {
    match (a, b) {
        (Object::Ingress(a), Object::Ingress(b)) => Arc::ptr_eq(a, b) || a == b,
        (Object::IngressClass(a), Object::IngressClass(b)) => Arc::ptr_eq(a, b) || a == b,
        (Object::Service(a), Object::Service(b)) => Arc::ptr_eq(a, b) || a == b,
        (Object::EndpointSlice(a), Object::EndpointSlice(b)) => Arc::ptr_eq(a, b) || a == b,
        (Object::Secret(a), Object::Secret(b)) => Arc::ptr_eq(a, b) || a == b,
        (Object::Namespace(a), Object::Namespace(b)) => Arc::ptr_eq(a, b) || a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
