//! Who asks: the API key and the JWT, checked as Stream does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::Value;
use sha2::Sha256;

use crate::answer::Question;
use crate::api_error::ApiError;

/// Refuses whoever is not the app's own server.
pub(crate) fn check(question: &Question, key: &str, secret: &str, now: Timestamp) -> Result<(), ApiError> {
    match question.parameter("api_key") {
        Some(given) if given == key => {}
        Some(_) => return Err(ApiError::new(401, 2, "api_key not valid")),
        None => return Err(ApiError::new(401, 2, "api_key not provided")),
    }
    if question.header("stream-auth-type") != Some("jwt") {
        return Err(ApiError::unauthenticated("stream-auth-type missing or not \"jwt\""));
    }
    let token =
        question.header("authorization").ok_or_else(|| ApiError::unauthenticated("authorization header is missing"))?;
    let claims = verify(token, secret)?;
    let seconds = |claim: &str| claims[claim].as_f64();
    let now_s = now.as_second() as f64;
    if seconds("exp").is_some_and(|exp| exp <= now_s) {
        return Err(ApiError::new(401, 40, "JWTAuth error: token is expired"));
    }
    if seconds("nbf").is_some_and(|nbf| nbf > now_s) {
        return Err(ApiError::new(401, 41, "JWTAuth error: token is not valid yet"));
    }
    if seconds("iat").is_some_and(|iat| iat > now_s) {
        return Err(ApiError::new(401, 42, "JWTAuth error: token used before issue at (iat)"));
    }
    // One vendor SDK signs no claims at all, so a token is a client's only if it names a user.
    if claims["server"] != Value::Bool(true) && !claims["user_id"].is_null() {
        return Err(ApiError::new(403, 17, "only server-side authentication is allowed here"));
    }
    Ok(())
}

fn verify(token: &str, secret: &str) -> Result<Value, ApiError> {
    let malformed = || ApiError::unauthenticated("JWTAuth error: token is malformed");
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
    let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
    if header["alg"] != "HS256" {
        return Err(ApiError::new(401, 43, "JWTAuth error: unexpected signing method"));
    }
    hmac(secret, signed)
        .verify_slice(&decode(signature)?)
        .map_err(|_| ApiError::new(401, 43, "JWTAuth error: signature is invalid"))?;
    serde_json::from_slice(&decode(claims)?).map_err(|_| malformed())
}

fn hmac(secret: &str, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac
}

/// The signature of `text`, for download URLs.
pub(crate) fn sign(secret: &str, text: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac(secret, text).finalize().into_bytes())
}

/// A server token as the vendor's SDKs make it, for clients that have no JWT library.
pub fn server_token(secret: &str) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(r#"{"server":true}"#)
    );
    format!("{signed}.{}", sign(secret, &signed))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn question(token: &str) -> Question {
        let mut question = Question::default();
        question.query.insert("api_key".into(), "key".into());
        question.headers.insert("stream-auth-type".into(), "jwt".into());
        question.headers.insert("authorization".into(), token.into());
        question
    }

    fn token(claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
        format!("{signed}.{}", sign("secret", &signed))
    }

    fn code(question: &Question) -> i32 {
        check(question, "key", "secret", Timestamp::from_second(1_000).unwrap()).err().map_or(0, |error| error.code)
    }

    #[test]
    fn each_way_to_fail_has_its_code() {
        assert_eq!(code(&question(&server_token("secret"))), 0);
        assert_eq!(code(&question(&server_token("other"))), 43);
        assert_eq!(code(&question(&token(r#"{"server":true,"exp":999}"#))), 40);
        assert_eq!(code(&question(&token(r#"{"server":true,"nbf":1001}"#))), 41);
        assert_eq!(code(&question(&token(r#"{"server":true,"iat":1001}"#))), 42);
        assert_eq!(code(&question(&token(r#"{"server":true,"iat":1000,"exp":1001}"#))), 0);
        assert_eq!(code(&question(&token(r#"{"user_id":"amara"}"#))), 17);
        assert_eq!(code(&question(&token("{}"))), 0);
        assert_eq!(code(&question("nonsense")), 5);
        assert_eq!(code(&question(&format!("Bearer {}", server_token("secret")))), 5);
        let mut other_key = question(&server_token("secret"));
        other_key.query.insert("api_key".into(), "other".into());
        assert_eq!(code(&other_key), 2);
        let mut no_type = question(&server_token("secret"));
        no_type.headers.remove("stream-auth-type");
        assert_eq!(code(&no_type), 5);
    }
}
