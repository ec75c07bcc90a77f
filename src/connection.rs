//! What to look at when a server cannot be reached: the network, what stands between, and whose certificates are trusted.

use std::error::Error as StdError;
use std::path::Path;

/// Variables that put a proxy between this machine and a server.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Where authorities' certificates are, if not where the system has them.
const CERTIFICATES: &str = "SSL_CERT_FILE";
const BEGINS: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What to do if nobody answers. `also` is what names the server, such as `STREAM_BASE_URL`.
pub(crate) fn unreachable_hint(also: &str) -> String {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let proxy = PROXIES.into_iter().find(is_set).map(|name| format!(", and the proxy that {name} names"));
    format!("check the network and {also}{}, then run the same command again", proxy.unwrap_or_default())
}

/// What to do if whoever answered cannot prove who it is: mostly a proxy, or a store of one's own, whose authority the system does not know.
pub(crate) fn untrusted_hint() -> String {
    let named = std::env::var_os(CERTIFICATES).filter(|path| !path.is_empty());
    untrusted_hint_with(named.as_deref().map(Path::new))
}

fn untrusted_hint_with(certificates: Option<&Path>) -> String {
    let Some(path) = certificates else {
        return format!(
            "its certificate is not trusted: name the file of the authority's certificates, PEM, in {CERTIFICATES}"
        );
    };
    let why = match std::fs::read(path) {
        Err(error) => format!("cannot be read: {error}"),
        Ok(text) if !text.windows(BEGINS.len()).any(|part| part == BEGINS) => "holds no certificate in PEM".to_owned(),
        Ok(_) => "does not hold its authority's".to_owned(),
    };
    format!("its certificate is not trusted, and {} of {CERTIFICATES} {why}", path.display())
}

/// Whether a connection failed for the other side's certificate.
pub(crate) fn is_untrusted(error: &(dyn StdError + 'static)) -> bool {
    // The words of rustls, which comes in versions of the HTTP client's choice.
    let says = |error: &dyn StdError| error.to_string().contains("invalid peer certificate");
    let mut cause = Some(error);
    while let Some(error) = cause {
        if says(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_of_certificates_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authority.pem");
        assert!(untrusted_hint_with(None).contains("name the file"));
        assert!(untrusted_hint_with(Some(&path)).contains("cannot be read"));
        std::fs::write(&path, b"\x30\x82").unwrap();
        assert!(untrusted_hint_with(Some(&path)).contains("holds no certificate"));
        std::fs::write(&path, [BEGINS, b"\n"].concat()).unwrap();
        assert!(untrusted_hint_with(Some(&path)).contains("does not hold its authority's"));
    }
}
