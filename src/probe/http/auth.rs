//! Credentials of a request: whose they are, and in which order they win.

use ::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::oauth2::OAuth2;
use super::spec::{AuthorizationSpec, BasicAuth, Spec};
use crate::model::{Answer, Authorization, Mistakes, Secret, Unknown};
use crate::net::Deadline;
use crate::net::SecretSource;
use crate::probe::Ask;
use crate::probe::secret;

/// The credentials of a module.
#[derive(Debug, Default)]
pub(in crate::probe) enum Auth {
    #[default]
    None,
    Basic {
        username: SecretSource,
        password: Option<SecretSource>,
    },
    Scheme {
        scheme: Box<str>,
        credentials: Option<SecretSource>,
    },
    OAuth2(Box<OAuth2>),
}

impl Auth {
    pub(in crate::probe) fn build(spec: &mut Spec, mistakes: &mut Mistakes) -> Self {
        let kinds = [
            ("basic_auth", spec.basic_auth.is_some()),
            ("authorization", spec.authorization.is_some()),
            ("oauth2", spec.oauth2.is_some()),
            ("bearer_token", set(spec.bearer_token.as_ref().map(Secret::reveal))),
            ("bearer_token_file", set(spec.bearer_token_file.as_deref())),
        ];
        let mut given = kinds.iter().filter(|(_, is_set)| *is_set);
        if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
            mistakes.error(
                second,
                format!("{first} and {second} exclude each other"),
                "keep one way of authenticating",
            );
        }
        if let Some(basic) = spec.basic_auth.take() {
            return Self::basic(basic, mistakes);
        }
        if let Some(authorization) = spec.authorization.take() {
            return Self::scheme(authorization, mistakes);
        }
        if let Some(oauth2) = spec.oauth2.take() {
            let mut built = None;
            mistakes.within("oauth2", |m| built = OAuth2::build(oauth2, m));
            return built.map_or(Self::None, |oauth2| Self::OAuth2(Box::new(oauth2)));
        }
        let inline = spec.bearer_token.take();
        let file = spec.bearer_token_file.take();
        match source("bearer_token", inline, file, None, mistakes) {
            Some(token) => Self::Scheme { scheme: "Bearer".into(), credentials: Some(token) },
            None => Self::None,
        }
    }

    fn basic(basic: BasicAuth, mistakes: &mut Mistakes) -> Self {
        let mut built = Self::None;
        mistakes.within("basic_auth", |m| {
            let name = basic.username.map(Secret::new);
            let username = source("username", name, basic.username_file, basic.username_ref, m);
            let password =
                source("password", basic.password, basic.password_file, basic.password_ref, m);
            let username = username.unwrap_or_else(|| SecretSource::Inline(Secret::default()));
            built = Self::Basic { username, password };
        });
        built
    }

    fn scheme(spec: AuthorizationSpec, mistakes: &mut Mistakes) -> Self {
        let scheme = spec.r#type.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        let scheme = scheme.unwrap_or_else(|| "Bearer".to_owned());
        let mut credentials = None;
        mistakes.within("authorization", |m| {
            if scheme.eq_ignore_ascii_case("basic") {
                m.error("type", "authorization cannot be of type basic", "use basic_auth");
            }
            credentials = source(
                "credentials",
                spec.credentials,
                spec.credentials_file,
                spec.credentials_ref,
                m,
            );
        });
        Self::Scheme { scheme: scheme.into(), credentials }
    }

    pub(super) const fn oauth2(&self) -> Option<&OAuth2> {
        match self {
            Self::OAuth2(oauth2) => Some(oauth2),
            _ => None,
        }
    }

    /// The value of `Authorization`, if there is any.
    pub(in crate::probe) async fn value(
        &self,
        ask: &Ask<'_>,
    ) -> Result<Option<HeaderValue>, Answer> {
        let deadline = ask.deadline;
        match self {
            Self::None => Ok(None),
            Self::Basic { username, password } => {
                let username = secret::read(username, deadline).await?;
                let password = match password {
                    Some(password) => secret::read(password, deadline).await?,
                    None => Secret::default(),
                };
                basic_value(username.reveal(), password.reveal()).map(Some)
            }
            Self::Scheme { scheme, credentials } => {
                let credentials = match credentials {
                    Some(credentials) => secret::read(credentials, deadline).await?,
                    None => Secret::default(),
                };
                scheme_value(scheme, credentials.reveal()).map(Some)
            }
            Self::OAuth2(oauth2) => {
                let token = oauth2.token(ask).await?;
                scheme_value(&token.kind, token.secret.reveal()).map(Some)
            }
        }
    }
}

/// The credentials of one target, which replace the module's.
pub(in crate::probe) async fn target_value(
    authorization: &Authorization,
    deadline: Deadline,
) -> Result<HeaderValue, Answer> {
    let credentials = match (&authorization.credentials, &authorization.credentials_file) {
        (Some(inline), _) => inline.clone(),
        (None, Some(path)) => secret::read(&SecretSource::File(path.into()), deadline).await?,
        (None, None) => Secret::default(),
    };
    scheme_value(&authorization.scheme, credentials.reveal())
}

pub(in crate::probe) fn basic_value(username: &str, password: &str) -> Result<HeaderValue, Answer> {
    let text = STANDARD.encode(format!("{username}:{password}"));
    sensitive(format!("Basic {text}"), "credentials")
}

fn scheme_value(scheme: &str, credentials: &str) -> Result<HeaderValue, Answer> {
    sensitive(format!("{scheme} {credentials}"), "credentials")
}

/// A header value that h2 does not index and nobody prints.
pub(in crate::probe) fn sensitive(text: String, what: &str) -> Result<HeaderValue, Answer> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Answer::from(Unknown::Setup(format!("{what} cannot be sent in a header").into()))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn set(text: Option<&str>) -> bool {
    text.is_some_and(|t| !t.is_empty())
}

/// At most one of `name`, `name_file` and `name_ref`.
pub(super) fn source(
    name: &str,
    inline: Option<Secret>,
    file: Option<String>,
    reference: Option<String>,
    mistakes: &mut Mistakes,
) -> Option<SecretSource> {
    let inline = inline.filter(|s| set(Some(s.reveal())));
    let file = file.filter(|f| set(Some(f)));
    let reference = reference.filter(|r| set(Some(r)));
    let given =
        u8::from(inline.is_some()) + u8::from(file.is_some()) + u8::from(reference.is_some());
    if given > 1 {
        mistakes.error(
            name,
            format!("at most one of {name}, {name}_file and {name}_ref may be set"),
            "keep one of them",
        );
    }
    if reference.is_some() {
        mistakes.warning(
            &format!("{name}_ref"),
            format!("there is no secret manager to take {name}_ref from: no run can succeed"),
            format!("use {name}_file"),
        );
        // Each run then says which file is missing.
        return reference.map(|path| SecretSource::File(path.into()));
    }
    inline.map(SecretSource::Inline).or_else(|| file.map(|path| SecretSource::File(path.into())))
}
