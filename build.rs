//! Compiles the vendored protos, without protoc, into service traits, message types and a descriptor set, and takes the
//! page that shows the API out of its archive.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, Cursor},
    path::{Path, PathBuf},
};

use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// What of Swagger UI is served, its licence among it.
const PAGE_FILES: [&str; 4] = [
    "dist/swagger-ui-bundle.js",
    "dist/swagger-ui.css",
    "LICENSE",
    "NOTICE",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let compiler = compile(false)?;
    // Encoded by the compiler, which keeps the annotations that REST is made of.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), encoded)?;
    // With the protos' documentation, which takes memory and is seldom asked for.
    let documented = compile(true)?.encode_file_descriptor_set();
    fs::write(out.join("documented.bin"), documented)?;
    let mut descriptors = compiler.file_descriptor_set();

    keep_published_messages_encoded(&mut descriptors)?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::wire::grpc::codec::Codec")
        // Ours holds the stored bytes and writes them without decoding (src/resource/message.rs).
        .extern_path(
            ".google.pubsub.v1.ReceivedMessage",
            "crate::resource::message::ReceivedMessage",
        )
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    take_page(&out)
}

fn compile(documented: bool) -> Result<protox::Compiler, protox::Error> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(documented);
    compiler.open_files([
        "google/pubsub/v1/pubsub.proto",
        "google/pubsub/v1/schema.proto",
        "google/iam/v1/iam_policy.proto",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        "packetboat/admin/v1/admin.proto",
    ])?;
    Ok(compiler)
}

/// Takes what is served out of Swagger UI.
fn take_page(out: &Path) -> Result<(), Box<dyn Error>> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let root = archive.file_names().next().ok_or("Swagger UI is empty")??;
    let root = root.split('/').next().unwrap_or_default().to_owned();
    for path in PAGE_FILES {
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut to = File::create(out.join(format!("page-{name}")))?;
        io::copy(&mut archive.by_name(&format!("{root}/{path}"))?, &mut to)?;
    }
    Ok(())
}

/// Declares `PublishRequest.messages` as bytes for code generation only: a bytes field has the wire form of an
/// embedded message, so a published message stays the slice of the request that it arrived in.
fn keep_published_messages_encoded(set: &mut FileDescriptorSet) -> Result<(), String> {
    let field = set
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .filter(|message| message.name() == "PublishRequest")
        .flat_map(|message| &mut message.field)
        .find(|field| field.name() == "messages")
        .ok_or("PublishRequest.messages is not in the protos")?;
    field.set_type(Type::Bytes);
    field.type_name = None;
    Ok(())
}
