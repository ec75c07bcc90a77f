//! Opening the place where a lake lies, and saying clearly why not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::requests::ToldRequests;
use crate::error::{Error, Kind, Result};
use crate::mounted::{self, MountedError};

/// The process environment, or what stands for it.
pub type Env = BTreeMap<String, String>;

/// The variables of this process that are text.
pub fn process_env() -> Env {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A store whose root is the lake, and how to name it to people: never with a credential.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) display_url: String,
    pub(super) folder: Option<PathBuf>,
}

/// How long one request may take. A server-side copy of a large file answers late.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(180);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Whether this machine has an instance role is known in this time or not at all.
const METADATA_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
const METADATA_ENDPOINT: &str = "http://169.254.169.254";

/// What AWS' own programs call the address of the metadata service.
const SDK_METADATA_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Secrets that may be mounted: `NAME_FILE` names a file that holds `NAME`.
const MOUNTED: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The variables, and what those files hold.
fn with_mounted(env: &Env) -> Result<Env> {
    let mut all = env.clone();
    for name in MOUNTED {
        let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
        let Some(path) = set(&format!("{name}_FILE")) else { continue };
        if set(name).is_some() {
            return Err(usage(format!("both `{name}` and `{name}_FILE` are set"), "unset one of them"));
        }
        match mounted::read(name, path) {
            // Keys that stay have none, and templates mount all three.
            Err(MountedError::Empty("AWS_SESSION_TOKEN")) => {}
            held => drop(all.insert(name.to_owned(), held?)),
        }
    }
    Ok(all)
}

/// Opens `s3://bucket/prefix`, `file:///folder` or a path. Nothing is created.
pub(super) async fn open(location: &str, env: &Env) -> Result<Opened> {
    match location.split_once("://") {
        Some(("s3" | "s3a", _)) => open_s3(location, env).await,
        Some(("file", _)) => {
            let url = parse_url(location)?;
            let folder = url.to_file_path().map_err(|()| {
                usage(
                    format!("`{location}` names no folder on this machine"),
                    "write file:///absolute/folder, or a path",
                )
            })?;
            open_folder(&folder)
        }
        Some((scheme, _)) => Err(usage(
            format!("a lake at `{scheme}://` is not supported"),
            "use s3://bucket/prefix, file:///folder or a path; other S3-compatible stores by AWS_ENDPOINT_URL",
        )),
        // A slash is missing; as a path it would be a folder of that name.
        None if ["s3:", "s3a:", "file:"].iter().any(|scheme| location.to_lowercase().starts_with(scheme)) => {
            Err(usage(
                format!("`{location}` is neither a URL nor a path"),
                "write s3://bucket/prefix or file:///folder, with two slashes after the colon; a folder of such a name as ./s3:",
            ))
        }
        None if location.is_empty() => Err(usage("--lake is empty".to_owned(), "use s3://bucket/prefix or a folder")),
        None => open_folder(FsPath::new(location)),
    }
}

fn open_folder(folder: &FsPath) -> Result<Opened> {
    let refused = |reason: String| usage(format!("the lake `{}` {reason}", folder.display()), "choose a folder");
    let absolute = std::path::absolute(folder).map_err(|error| refused("is no path".to_owned()).because(error))?;
    // Symlinks are resolved as far as the path exists, so that `..` means what the file system means by it.
    let mut missing = Vec::new();
    let mut existing = absolute.clone();
    let root = loop {
        match existing.canonicalize() {
            Ok(found) if found.is_dir() => break found,
            Ok(_) => return Err(refused("is a file, or lies below one".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(refused("is a file, or lies below one".to_owned()));
            }
            Err(error) => {
                let message = format!("cannot open the lake `{}`", folder.display());
                let kind =
                    if error.kind() == io::ErrorKind::PermissionDenied { Kind::Permission } else { Kind::Temporary };
                return Err(Error::new(kind, message).because(error).hint("check the folder's owner and rights"));
            }
        }
        match existing.components().next_back() {
            Some(Component::Normal(name)) => missing.push(name.to_owned()),
            _ => return Err(refused("does not exist, and `..` cannot be followed there".to_owned())),
        }
        existing.pop();
    };
    let root = missing.into_iter().rev().fold(root, |path, name| path.join(name));
    let prefix = Path::from_absolute_path(&root)
        .map_err(|error| refused("has a name that cannot be used".to_owned()).because(error))?;
    let store = LocalFileSystem::new().with_fsync(true);
    Ok(Opened {
        store: Arc::new(PrefixStore::new(store, prefix)),
        display_url: root.display().to_string(),
        folder: Some(root),
    })
}

async fn open_s3(location: &str, env: &Env) -> Result<Opened> {
    let url = parse_url(location)?;
    let env = &with_mounted(env)?;
    let Some(bucket) = url.host_str().filter(|bucket| !bucket.is_empty()) else {
        return Err(usage(format!("`{location}` names no bucket"), "write s3://bucket/prefix"));
    };
    let refused = |error: object_store::Error| {
        usage(format!("the S3 settings for bucket `{bucket}` cannot be used"), "check the AWS_* variables")
            .because(error)
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(ToldRequests::default());
    let mut options = ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
    for (name, value) in env.iter().filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty()) {
        // object_store has names for the variables that it knows; the others are for other programs.
        let name = if name == SDK_METADATA_ENDPOINT { "AWS_METADATA_ENDPOINT" } else { name };
        match name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            Ok(AmazonS3ConfigKey::Bucket) | Err(_) => {}
            Ok(AmazonS3ConfigKey::Client(key)) => options = options.with_config(key, value),
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key));
    if let Some(endpoint) = endpoint {
        let parsed = Url::parse(&endpoint)
            .map_err(|error| usage("the S3 endpoint is no URL".to_owned(), "check AWS_ENDPOINT_URL").because(error))?;
        if parsed.scheme() == "http" {
            options = options.with_allow_http(true);
        }
        if is_set(&builder, AmazonS3ConfigKey::VirtualHostedStyleRequest) {
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, with_bucket(parsed, bucket)?);
        }
    }
    builder = builder.with_client_options(options);
    if needs_instance_role(&builder) {
        check_instance_role(env, builder.get_config_value(&AmazonS3ConfigKey::MetadataEndpoint)).await?;
    }
    let prefix = Path::from_url_path(url.path()).map_err(|error| {
        usage(format!("`{location}` has a prefix that cannot be used"), "use plain names").because(error)
    })?;
    let display_url = format!("s3://{bucket}/{prefix}");
    let store = builder.build().map_err(refused)?;
    Ok(Opened { store: Arc::new(PrefixStore::new(store, prefix)), display_url, folder: None })
}

/// The host of a bucket at this endpoint: `https://bucket.host`.
fn with_bucket(mut endpoint: Url, bucket: &str) -> Result<String> {
    let host = endpoint.host_str().unwrap_or_default().to_owned();
    let is_named = host.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('.'));
    if !is_named && (endpoint.domain().is_none() || endpoint.set_host(Some(&format!("{bucket}.{host}"))).is_err()) {
        return Err(usage(
            format!("there is no host `{bucket}.{host}` for virtual-hosted style"),
            "name the endpoint by a host, or unset AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        ));
    }
    Ok(endpoint.as_str().trim_end_matches('/').to_owned())
}

fn is_set(builder: &AmazonS3Builder, key: AmazonS3ConfigKey) -> bool {
    builder.get_config_value(&key).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

fn parse_url(location: &str) -> Result<Url> {
    // The text is not repeated: whoever puts a secret into a URL does not want to see it in a log.
    let url = Url::parse(location)
        .map_err(|error| usage("--lake is no URL".to_owned(), "write s3://bucket/prefix").because(error))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(usage(
            "--lake must hold no credentials, `?` or `#`".to_owned(),
            "give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ));
    }
    Ok(url)
}

/// Bounded in number and time: a scheduler retries better than a process that hangs.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.,
        },
        max_retries: 8,
        retry_timeout: Duration::from_secs(60),
    }
}

/// Whether nothing but the metadata service of a virtual machine is left to give credentials.
fn needs_instance_role(builder: &AmazonS3Builder) -> bool {
    let has = |key: AmazonS3ConfigKey| builder.get_config_value(&key).is_some();
    !(is_set(builder, AmazonS3ConfigKey::SkipSignature)
        || has(AmazonS3ConfigKey::AccessKeyId)
        || has(AmazonS3ConfigKey::SecretAccessKey)
        || has(AmazonS3ConfigKey::WebIdentityTokenFile) && has(AmazonS3ConfigKey::RoleArn)
        || has(AmazonS3ConfigKey::ContainerCredentialsRelativeUri)
        || has(AmazonS3ConfigKey::ContainerCredentialsFullUri)
            && has(AmazonS3ConfigKey::ContainerAuthorizationTokenFile))
}

/// Asks briefly whether a metadata service answers, since a machine without one would wait for it for minutes.
async fn check_instance_role(env: &Env, endpoint: Option<String>) -> Result<()> {
    let profile = env.get("AWS_PROFILE").filter(|profile| !profile.is_empty());
    let disabled = env.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let message = match (profile, endpoint) {
        (_, Some(endpoint)) if answers(&endpoint).await => return Ok(()),
        (_, Some(_)) => {
            "there are no AWS credentials: the metadata service that a variable names does not answer".to_owned()
        }
        (Some(profile), None) => format!("the AWS profile `{profile}` is set, but profiles and SSO are not read"),
        (None, None) if !disabled && answers(METADATA_ENDPOINT).await => return Ok(()),
        (None, None) => "there are no AWS credentials".to_owned(),
    };
    let name = profile.map_or("NAME", String::as_str);
    Err(Error::new(Kind::Permission, message).hint(format!(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or: eval \"$(aws configure export-credentials --profile {name} --format env)\""
    )))
}

/// Whether anything comes back, whatever it is, for what a role's credentials begin with. Where a container is a hop too far away, the
/// service takes the connection and its answer never arrives.
async fn answers(endpoint: &str) -> bool {
    let client = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(METADATA_CONNECT_TIMEOUT)
        .timeout(METADATA_TIMEOUT)
        .build();
    let Ok(client) = client else { return false };
    let request = client
        .put(format!("{}/latest/api/token", endpoint.trim_end_matches('/')))
        .header("X-aws-ec2-metadata-token-ttl-seconds", "60");
    request.send().await.is_ok()
}

fn usage(message: String, hint: &str) -> Error {
    Error::new(Kind::Usage, message).hint(hint)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    async fn refusal(location: &str, env: &[(&str, &str)]) -> Error {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        open(location, &env).await.err().unwrap()
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];

    #[tokio::test]
    async fn what_is_no_lake_is_refused_as_usage() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let below = file.path().join("lake");
        for location in [
            "",
            "gs://bucket/x",
            "s3:/bucket/x",
            "s3:bucket/x",
            "file:/folder",
            "s3:///prefix",
            "s3://bucket/x?versionId=1",
            file.path().to_str().unwrap(),
            below.to_str().unwrap(),
        ] {
            assert_eq!(refusal(location, &KEYS).await.kind(), Kind::Usage, "{location}");
        }
    }

    #[tokio::test]
    async fn a_secret_in_the_url_is_refused_and_not_repeated() {
        let error = refusal("s3://key:hunter2@bucket/prefix", &[]).await;
        assert_eq!(error.kind(), Kind::Usage);
        assert!(!error.report().contains("hunter2"), "{}", error.report());
    }

    #[tokio::test]
    async fn a_profile_without_keys_is_refused_with_the_way_out() {
        let error = refusal("s3://bucket/prefix", &[("AWS_PROFILE", "prod")]).await;
        assert_eq!(error.kind(), Kind::Permission);
        assert!(error.report().contains("export-credentials --profile prod"), "{}", error.report());
        let error = refusal("s3://bucket/prefix", &[("AWS_EC2_METADATA_DISABLED", "true")]).await;
        assert_eq!(error.kind(), Kind::Permission);
    }

    #[tokio::test]
    async fn a_metadata_service_that_never_answers_is_given_up_within_seconds() {
        // It takes connections, as the system does for it, and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let begun = std::time::Instant::now();
        let error = refusal("s3://bucket/prefix", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)]).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(error.kind(), Kind::Permission);
        assert!(error.report().contains("export-credentials"), "{}", error.report());
    }

    #[tokio::test]
    async fn keys_may_be_mounted_as_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (key, secret) = (file("key", "key\n"), file("secret", "hunter2\n"));
        let files = [("AWS_ACCESS_KEY_ID_FILE", key.as_str()), ("AWS_SECRET_ACCESS_KEY_FILE", secret.as_str())];
        let env: Env = files.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(with_mounted(&env).unwrap()["AWS_SECRET_ACCESS_KEY"], "hunter2");
        assert!(open("s3://bucket/prefix", &env).await.is_ok());
        let error = refusal("s3://bucket/prefix", &[files[0], KEYS[0]]).await;
        assert_eq!((error.kind(), error.report().contains("both `AWS_ACCESS_KEY_ID`")), (Kind::Usage, true));
        let error = refusal("s3://bucket/prefix", &[files[0], ("AWS_SECRET_ACCESS_KEY_FILE", "/nowhere")]).await;
        assert_eq!((error.kind(), error.report().contains("/nowhere")), (Kind::Permission, true));
        // On a machine with a role, no key would mean another identity.
        let empty = file("empty", "\n");
        let error = refusal("s3://bucket/prefix", &[("AWS_ACCESS_KEY_ID_FILE", &empty), files[1]]).await;
        assert_eq!((error.kind(), error.report().contains("is empty")), (Kind::Permission, true));
        let with_token = [files[0], files[1], ("AWS_SESSION_TOKEN_FILE", &empty)];
        let env: Env = with_token.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert!(!with_mounted(&env).unwrap().contains_key("AWS_SESSION_TOKEN"));
    }

    #[tokio::test]
    async fn half_a_key_and_a_bad_endpoint_are_refused() {
        assert_eq!(refusal("s3://bucket/prefix", &KEYS[..1]).await.kind(), Kind::Usage);
        let error = refusal("s3://bucket/prefix", &[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "localhost")]).await;
        assert!(error.report().contains("AWS_ENDPOINT_URL"), "{}", error.report());
    }

    #[tokio::test]
    async fn a_folder_is_made_by_the_first_write_only_and_any_name_will_do() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("my lake %41 ü #2").join("inner");
        for location in [folder.to_str().unwrap().to_owned(), Url::from_file_path(&folder).unwrap().to_string()] {
            let opened = open(&location, &Env::new()).await.unwrap();
            let key = Path::from("a/event_date=2026-01-01/x.parquet");
            assert!(matches!(opened.store.head(&key).await, Err(object_store::Error::NotFound { .. })));
            assert!(!folder.exists());
            opened.store.put(&key, "bytes".into()).await.unwrap();
            assert_eq!(std::fs::read(folder.join("a/event_date=2026-01-01/x.parquet")).unwrap(), b"bytes");
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
