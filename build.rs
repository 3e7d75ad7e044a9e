//! Compiles the vendored protos, without protoc, into service traits, message types and a descriptor set.

use std::{env, error::Error, fs, path::PathBuf};

use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files([
        "google/pubsub/v1/pubsub.proto",
        "google/pubsub/v1/schema.proto",
        "google/iam/v1/iam_policy.proto",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        "packetboat/admin/v1/admin.proto",
    ])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Encoded by the compiler, which keeps the annotations that REST is made of.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), encoded)?;
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
