//! The signed assertion of OAuth 2's JWT grant (RFC 7523).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::auth::source;
use super::spec::OAuth2Spec;
use crate::clock;
use crate::model::{Answer, Mistakes, Secret, Unknown};
use crate::net::Deadline;
use crate::net::SecretSource;
use crate::probe::secret;

pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// How long an assertion is good for.
const LIFETIME_SECONDS: i64 = 3600;

#[derive(Debug)]
pub(super) struct Assertion {
    key: SecretSource,
    key_id: Option<String>,
    algorithm: Algorithm,
    issuer: String,
    subject: String,
    audience: String,
    claims: Map<String, Value>,
}

#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
}

impl Algorithm {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" | "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    const fn scheme(self) -> SignatureScheme {
        match self {
            Self::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            Self::Rs384 => SignatureScheme::RSA_PKCS1_SHA384,
            Self::Rs512 => SignatureScheme::RSA_PKCS1_SHA512,
        }
    }
}

impl Assertion {
    pub(super) fn build(
        spec: &mut OAuth2Spec,
        client_id: &str,
        token_url: &str,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let key = source(
            "client_certificate_key",
            spec.client_certificate_key.take(),
            spec.client_certificate_key_file.take(),
            spec.client_certificate_key_ref.take(),
            mistakes,
        );
        if key.is_none() {
            let hint = "set client_certificate_key_file to the private key";
            mistakes.error("client_certificate_key", "the JWT grant needs a key", hint);
        }
        let written = spec.signature_algorithm.take().unwrap_or_default();
        let algorithm = Algorithm::parse(&written);
        if algorithm.is_none() {
            let what = format!("there is no signature algorithm {written:?}");
            mistakes.error("signature_algorithm", what, "use RS256, RS384 or RS512");
        }
        let issuer = spec.iss.take().filter(|iss| !iss.is_empty());
        let audience = spec.audience.take().filter(|audience| !audience.is_empty());
        Some(Self {
            key: key?,
            key_id: spec.client_certificate_key_id.take().filter(|id| !id.is_empty()),
            algorithm: algorithm?,
            issuer: issuer.unwrap_or_else(|| client_id.to_owned()),
            subject: client_id.to_owned(),
            audience: audience.unwrap_or_else(|| token_url.to_owned()),
            claims: spec.claims.take().unwrap_or_default(),
        })
    }

    pub(super) async fn sign(&self, deadline: Deadline, scopes: &str) -> Result<Secret, Answer> {
        let key = secret::read(&self.key, deadline).await?;
        let unusable =
            || Answer::from(Unknown::Setup("the key of the JWT grant cannot be used".into()));
        let der = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| unusable())?;
        let key = any_supported_type(&der).map_err(|_| unusable())?;
        let signer = key.choose_scheme(&[self.algorithm.scheme()]).ok_or_else(unusable)?;
        let text = self.text(scopes, clock::now().wall.as_second());
        let signature = signer.sign(text.as_bytes()).map_err(|_| unusable())?;
        Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    fn text(&self, scopes: &str, now: i64) -> String {
        let mut header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        if let Some(id) = &self.key_id {
            header["kid"] = json!(id);
        }
        let mut claims = self.claims.clone();
        claims.insert("iss".into(), json!(self.issuer));
        claims.insert("sub".into(), json!(self.subject));
        claims.insert("aud".into(), json!(self.audience));
        claims.insert("iat".into(), json!(now));
        claims.insert("exp".into(), json!(now + LIFETIME_SECONDS));
        if !scopes.is_empty() {
            claims.insert("scope".into(), json!(scopes));
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(&header), part(&Value::Object(claims)))
    }
}
