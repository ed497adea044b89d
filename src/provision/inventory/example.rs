//! `futago init`: the example project.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const INVENTORY: &str = include_str!("../../../inventory/example.yml");

/// Writes an example inventory into a folder, which is made when missing; never over an existing file.
/// Returns the path of the inventory.
pub fn write_example(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("inventory").join("ha.yml");
    let write = || {
        std::fs::create_dir_all(folder.join("inventory"))?;
        let mut file = std::fs::File::create_new(&path)?;
        file.write_all(INVENTORY.as_bytes())
    };
    match write() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => {
            bail!("{} is there already; nothing was written", path.display())
        }
        done => done.with_context(|| format!("write an example into {}", folder.display()))?,
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_valid_inventory_and_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_example(folder.path()).unwrap();
        let inventory = super::super::Inventory::load(&path).unwrap();
        assert_eq!(inventory.hosts.len(), 2);
        assert_eq!(inventory.project(), folder.path());
        std::fs::write(&path, "mine").unwrap();
        let refusal = write_example(folder.path()).unwrap_err().to_string();
        assert_eq!(refusal, format!("{} is there already; nothing was written", path.display()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
