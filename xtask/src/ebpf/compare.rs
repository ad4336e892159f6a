//! In which parts two objects differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::toolchain::Toolchain;
use crate::process;

/// A sentence that names the sections that differ.
pub(super) fn sections(toolchain: &Toolchain, committed: &Path, built: &Path) -> Result<String> {
    let committed = contents(toolchain, committed)?;
    let built = contents(toolchain, built)?;
    let names: BTreeSet<&String> = committed.keys().chain(built.keys()).collect();
    let differing: Vec<&str> = names
        .into_iter()
        .filter(|name| committed.get(*name) != built.get(*name))
        .map(String::as_str)
        .collect();
    Ok(match differing.as_slice() {
        [] => {
            "Every section is the same; only their order or the names of symbols differ.".to_owned()
        }
        some => format!(
            "Sections that differ: {}. (.BTF and .BTF.ext: types and lines; names of programs: code.)",
            some.join(", ")
        ),
    })
}

/// The bytes of each section.
fn contents(toolchain: &Toolchain, object: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let bytes = fs::read(object)?;
    let mut readelf = toolchain.llvm("llvm-readelf");
    let table = process::output(readelf.args(["--sections", "--wide"]).arg(object))?;
    Ok(table
        .lines()
        .filter_map(|line| section(line, &bytes))
        .collect())
}

/// `  [ 3] NAME PROGBITS 0000000000000000 0001a0 000b48 …`: address, offset and size are hexadecimal.
fn section(line: &str, object: &[u8]) -> Option<(String, Vec<u8>)> {
    let (_, line) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    let mut words = line.split_whitespace();
    let (name, kind) = (words.next()?, words.next()?);
    let mut numbers = words.skip(1).map(|word| usize::from_str_radix(word, 16));
    let (offset, size) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let content = match kind {
        "NOBITS" => &[],
        _ => object.get(offset..offset.checked_add(size)?)?,
    };
    Some((name.to_owned(), content.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_from_its_line() {
        let line = "  [ 2] .text             PROGBITS        0000000000000000 000001 000003 00  AX  0   0  8";
        let (name, content) = section(line, b"abcdef").unwrap();
        assert_eq!((&*name, &*content), (".text", &b"bcd"[..]));
        assert_eq!(
            section("  [Nr] Name Type Address Off Size", b"abcdef"),
            None
        );
    }
}
