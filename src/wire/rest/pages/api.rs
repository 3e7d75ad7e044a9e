//! `/docs`: the API as a page, made by Swagger UI of the description at `/openapi.json`.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{HTML, TEXT, packed::Packed, page};

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Packetboat API</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
  <div id="api"><noscript>This page needs JavaScript; <a href="/openapi.json">the description</a> does not.</noscript></div>
  <script src="/docs/swagger-ui-bundle.js"></script>
  <script src="/docs/start.js"></script>
  <p style="text-align: center; font: small sans-serif">
    Shown by Swagger UI (<a href="/docs/LICENSE">licence</a>, <a href="/docs/NOTICE">notice</a>).
  </p>
</body>
</html>
"#;

/// A file of its own, so that the page runs no script that is written into it.
const START: &str = r##"SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  validatorUrl: null,
});
"##;

/// What the page may do: run its files and ask this server. Swagger UI sets styles and has pictures written into it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

macro_rules! file {
    ($content_type:expr, $name:literal) => {
        Packed::of_static(
            $content_type,
            include_bytes!(concat!(env!("OUT_DIR"), "/page-", $name)),
        )
    };
}

static START_FILE: Packed = Packed::of_static(JAVASCRIPT, START.as_bytes());
static BUNDLE: Packed = file!(JAVASCRIPT, "swagger-ui-bundle.js");
static STYLES: Packed = file!(CSS, "swagger-ui.css");
static LICENCE: Packed = file!(TEXT, "LICENSE");
static NOTICE: Packed = file!(TEXT, "NOTICE");

/// The page or what it is made of, for a request with these headers; nothing for another path.
pub(super) fn answer(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let file = match path {
        "/docs" | "/docs/" => {
            let mut page = page(StatusCode::OK, HTML, PAGE);
            page.headers_mut()
                .insert(header::CONTENT_SECURITY_POLICY, POLICY);
            return Some(page);
        }
        "/docs/start.js" => &START_FILE,
        "/docs/swagger-ui-bundle.js" => &BUNDLE,
        "/docs/swagger-ui.css" => &STYLES,
        "/docs/LICENSE" => &LICENCE,
        "/docs/NOTICE" => &NOTICE,
        _ => return None,
    };
    let mut answer = file.answer(headers);
    answer.headers_mut().insert(header::CACHE_CONTROL, KEPT);
    Some(answer)
}

const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
/// It changes with the server's version only.
const KEPT: HeaderValue = HeaderValue::from_static("max-age=3600");
