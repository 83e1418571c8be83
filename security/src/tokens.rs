//! Tokens that callers present, and the principals that hold them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::task::spawn_blocking;
use tracing::{error, info};

/// Authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    name: String,
    expires: Option<SystemTime>,
}

impl Principal {
    /// A caller of this name, for as long as its connection stands.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), expires: None }
    }

    /// The same until `time`: then an RPC server says GOAWAY, and the client connects again with fresh credentials.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires = Some(time);
        self
    }

    /// Name that rules are about.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// End of the authentication; `None` if it lasts as long as the connection.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

/// Reason that tokens cannot be used. Tokens themselves are never named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read.
    #[error("the token file {file} cannot be read: {error}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// A line that is no token.
    #[error("line {line} of the token file {file}: {reason}")]
    Line {
        /// The file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// The broken rule, and the remedy.
        reason: String,
    },
    /// No token at all: nobody could call.
    #[error("the token file {file} holds no token: write lines of `PRINCIPAL TOKEN`")]
    Empty {
        /// The file.
        file: String,
    },
}

/// Tokens and their holders. Cheap to clone; all clones see a reload.
///
/// Only SHA-256 digests are kept, and a presented token is compared with all of them in constant time. A file has one token a
/// line; a principal may have several, so that a token is replaced without a gap:
///
/// ```text
/// # principal  token                    valid until (RFC 3339), optional
/// order        d2d7a3c1f0b94e6c8f5a
/// order        5b1f2c9e7a804d3ab6c2     2027-01-31T00:00:00Z
/// spiffe://prod/shop  0d9b1c7733e64a2f8a11
/// ```
///
/// The file is read again every [`reload_every`](Self::reload_every), at the next token that is presented. One that is broken is
/// logged and not used: the previous tokens stay. An authentication lasts for an hour at most, so a token that is taken out of the file
/// loses its standing connections by then: RPC clients connect again, without a failed call as long as their token holds.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    file: Option<PathBuf>,
    reload_every: Duration,
    state: Mutex<State>,
}

struct State {
    held: Arc<[Token]>,
    read: Instant,
}

struct Token {
    digest: [u8; 32],
    principal: Principal,
}

/// Time after which a caller presents its token again.
const LASTS: Duration = Duration::from_secs(3600);

impl Tokens {
    /// One token, which never ends.
    pub fn single(principal: impl Into<String>, token: impl AsRef<[u8]>) -> Self {
        let token = Token { digest: digest(token.as_ref()), principal: Principal::new(principal) };
        Self::holding(None, [token].into())
    }

    /// Tokens of a file. Reads it: on a runtime's thread, call it by `spawn_blocking`, or before there are connections.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is no token.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, TokensError> {
        let path = path.into();
        let held = read(&path)?;
        Ok(Self::holding(Some(path), held))
    }

    fn holding(file: Option<PathBuf>, held: Arc<[Token]>) -> Self {
        let state = Mutex::new(State { held, read: Instant::now() });
        Self(Arc::new(Inner { file, reload_every: Duration::from_secs(10), state }))
    }

    /// The same tokens, whose file is read again after this time. Default 10 s.
    #[must_use]
    pub fn reload_every(self, pause: Duration) -> Self {
        let held = self.0.lock().held.clone();
        let state = Mutex::new(State { held, read: Instant::now() });
        Self(Arc::new(Inner { file: self.0.file.clone(), reload_every: pause, state }))
    }

    /// Reads the file again at once; returns true if the tokens have changed.
    ///
    /// # Errors
    /// The reason that the new file is not used: the previous tokens stay.
    pub fn reload(&self) -> Result<bool, TokensError> {
        let Some(file) = &self.0.file else { return Ok(false) };
        let held = read(file)?;
        let mut state = self.0.lock();
        let same = |(a, b): (&Token, &Token)| a.digest == b.digest && a.principal == b.principal;
        let has_changed = held.len() != state.held.len() || !held.iter().zip(state.held.iter()).all(same);
        state.held = held;
        Ok(has_changed)
    }

    /// The holder of this token; `None` if nobody holds it, if it has ended, or if it is another's: a holder that is a SPIFFE ID is believed
    /// beside a certificate of that `identity` alone. `identity` is empty for a caller without a certificate.
    pub async fn check(&self, token: &[u8], identity: &str) -> Option<Principal> {
        if self.is_due() {
            let tokens = self.clone();
            match spawn_blocking(move || tokens.reload()).await {
                Ok(Ok(true)) => info!("the changed token file is in use"),
                Ok(Err(error)) => error!("the previous tokens stay: {error}"),
                Ok(Ok(false)) | Err(_) => {}
            }
        }
        let held = self.0.lock().held.clone();
        let found = find(&held, token, SystemTime::now())?;
        let is_own = !found.name.starts_with("spiffe://") || found.name == identity;
        is_own.then_some(found)
    }

    /// Returns true if the file is to be read, for one caller at a time.
    fn is_due(&self) -> bool {
        let mut state = self.0.lock();
        let is_due = self.0.file.is_some() && state.read.elapsed() >= self.0.reload_every;
        if is_due {
            state.read = Instant::now();
        }
        is_due
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at every token, and takes the same time whichever it is.
fn find(held: &[Token], token: &[u8], now: SystemTime) -> Option<Principal> {
    let (digest, mut found) = (digest(token), None);
    for token in held {
        if bool::from(is_same(&token.digest, &digest)) {
            found = Some(&token.principal);
        }
    }
    let lasts = now + LASTS;
    let expires = |principal: &Principal| principal.expires.map_or(lasts, |expires| expires.min(lasts));
    found.map(|found| found.clone().expires_at(expires(found))).filter(|found| found.expires.is_some_and(|at| at > now))
}

fn is_same(a: &[u8; 32], b: &[u8; 32]) -> Choice {
    a.as_slice().ct_eq(b.as_slice())
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn read(path: &Path) -> Result<Arc<[Token]>, TokensError> {
    let file = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, &file),
        Err(error) => Err(TokensError::Read { file, error }),
    }
}

fn parse(text: &str, file: &str) -> Result<Arc<[Token]>, TokensError> {
    let mut held: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let invalid =
            |reason: &str| TokensError::Line { file: file.to_owned(), line: index + 1, reason: reason.to_owned() };
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, token, until) = match words[..] {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [name, token] => (name, token, None),
            [name, token, until] => (name, token, Some(until)),
            _ => return Err(invalid("write `PRINCIPAL TOKEN`, and the end of its validity if it has one")),
        };
        let until = until.map(humantime::parse_rfc3339).transpose();
        let until = until.map_err(|_| invalid("the third word is no time such as 2027-01-31T00:00:00Z"))?;
        let token =
            Token { digest: digest(token.as_bytes()), principal: Principal { name: name.to_owned(), expires: until } };
        if held.iter().any(|known| known.digest == token.digest) {
            return Err(invalid("this token is there already: give each principal tokens of its own"));
        }
        held.push(token);
    }
    if held.is_empty() { Err(TokensError::Empty { file: file.to_owned() }) } else { Ok(held.into()) }
}

/// The file and the number of tokens; no token, and no digest.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.0.lock().held.len();
        f.debug_struct("Tokens").field("file", &self.0.file).field("held", &held).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_token_names_its_holder_until_it_ends() {
        let text = "# who may call\norder one\norder  two 2027-01-31T00:00:00Z\n\nshop three\n";
        let held = parse(text, "f").unwrap();
        let name = |token: &str, now| find(&held, token.as_bytes(), at(now)).map(|found| found.name);
        let early = "2027-01-30T00:00:00Z";
        assert_eq!(name("one", early).as_deref(), Some("order"));
        assert_eq!(name("two", early).as_deref(), Some("order"));
        assert_eq!(name("three", early).as_deref(), Some("shop"));
        assert_eq!(name("two", "2027-01-31T00:00:00Z"), None, "it has ended");
        for stranger in ["", "on", "one ", "onee", "ONE", "order", "order one"] {
            assert_eq!(name(stranger, early), None, "{stranger}");
        }
        let expires = |token: &str, now| find(&held, token.as_bytes(), at(now)).unwrap().expires.unwrap();
        assert_eq!(expires("one", early), at("2027-01-30T01:00:00Z"), "presented again after an hour");
        assert_eq!(expires("two", "2027-01-30T23:30:00Z"), at("2027-01-31T00:00:00Z"));
    }

    #[test]
    fn a_broken_file_is_refused_without_a_word_of_its_tokens() {
        for (text, reason) in [
            ("", "holds no token"),
            ("# order secret-one\n", "holds no token"),
            ("order secret-one\nsecret-two\n", "line 2 of"),
            ("order secret-one next-week\n", "no time"),
            ("order secret-one 2027-01-31T00:00:00Z more\n", "write `PRINCIPAL TOKEN`"),
            ("order secret-one\nshop secret-one\n", "there already"),
        ] {
            let error = parse(text, "f").map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        assert!(matches!(Tokens::from_file(&path), Err(TokensError::Read { .. })));
        fs::write(&path, "order old\n").unwrap();
        let tokens = Tokens::from_file(&path).unwrap().reload_every(Duration::ZERO);
        assert_eq!(tokens.check(b"old", "").await.unwrap().name(), "order");
        fs::write(&path, "order new\n").unwrap();
        assert!(tokens.check(b"old", "").await.is_none());
        assert_eq!(tokens.check(b"new", "").await.unwrap().name(), "order");
        fs::write(&path, "new\n").unwrap();
        assert_eq!(tokens.check(b"new", "").await.unwrap().name(), "order", "the previous tokens stay");
        assert!(tokens.reload().is_err());
        fs::write(&path, "order new\nshop more\n").unwrap();
        assert!(tokens.reload().unwrap() && !tokens.reload().unwrap());
        let shown = format!("{tokens:?}");
        assert!(shown.contains("held: 2") && !shown.contains("new"), "{shown}");
    }

    #[tokio::test]
    async fn the_token_of_a_certificate_is_no_other_callers() {
        let tokens = Tokens::single("spiffe://prod/shop", "secret");
        for (identity, is_own) in [("spiffe://prod/shop", true), ("spiffe://prod/order", false), ("", false)] {
            assert_eq!(tokens.check(b"secret", identity).await.is_some(), is_own, "{identity}");
        }
    }

    #[tokio::test]
    async fn a_single_token_needs_no_file() {
        let tokens = Tokens::single("ops", "secret");
        assert_eq!(tokens.check(b"secret", "spiffe://prod/any").await.unwrap().name(), "ops");
        assert!(tokens.check(b"secreT", "").await.is_none());
        assert!(!tokens.reload().unwrap());
    }
}
