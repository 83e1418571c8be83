use std::fmt;

/// Text that is never printed: a password, a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself: for what is sent to the registry, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// A user of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name, as the registry knows it.
    pub username: String,
    /// The user's password.
    pub password: Secret,
}

impl Login {
    /// The user with this name and password.
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}
