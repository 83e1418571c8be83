use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Which calls were executed: one id for each execution, in a file that several processes append to.
///
/// An entry is written by one system call in append mode, so it outlives the process that is killed right after, and
/// entries of several processes do not mix.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
}

impl Ledger {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = File::options().append(true).create(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes one execution.
    ///
    /// # Errors
    /// What the system says.
    pub fn note(&self, id: u64) -> io::Result<()> {
        (&self.file).write_all(&id.to_be_bytes())
    }

    /// How often each id was executed.
    ///
    /// # Errors
    /// What the system says, and a file that is no ledger.
    pub fn executions(&self) -> io::Result<HashMap<u64, u64>> {
        let bytes = fs::read(&self.path)?;
        let (entries, []) = bytes.as_chunks() else {
            return Err(io::Error::other(format!("{} ends within an entry", self.path.display())));
        };
        let mut executions = HashMap::new();
        for entry in entries {
            *executions.entry(u64::from_be_bytes(*entry)).or_default() += 1;
        }
        Ok(executions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_of_one_file_add_up() {
        let directory = tempfile::tempdir().unwrap();
        let ledgers = [0, 1].map(|_| Ledger::open(directory.path().join("ledger")).unwrap());
        for id in [1, 2, 3, 2] {
            ledgers[id as usize % 2].note(id).unwrap();
        }
        assert_eq!(ledgers[0].executions().unwrap(), HashMap::from([(1, 1), (2, 2), (3, 1)]));
    }
}
