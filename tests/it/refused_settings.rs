//! Settings that change what is delivered and do not work yet are refused by name, and nothing is stored.

use packetboat::proto::google::pubsub::v1::{
    BigQueryConfig, BigtableConfig, CloudStorageConfig, Encoding, IngestionDataSourceSettings,
    JavaScriptUdf, MessageTransform, PushConfig, SchemaSettings, Subscription, Topic,
    ingestion_data_source_settings::{AwsKinesis, Source},
    message_transform::Transform,
};
use tonic::Code;

use crate::support::{
    Pubsub,
    admin::{bare, subscription_name, topic_name},
    ok, refused,
    values::days,
};

/// Fails unless a subscription cannot be created with this `field`, nor, where it may change, be given it.
async fn refused_on_a_subscription(field: &str, mutable: bool, set: impl Fn(&mut Subscription)) {
    let client = Pubsub::start().await.client();
    let topic = client.topic("orders").await;
    let dead = client.topic("dead").await;
    assert_eq!(dead, topic_name("dead"));
    let name = subscription_name("worker");
    let mut with_setting = bare(&name, &topic);
    set(&mut with_setting);

    let answer = client.create_subscription(with_setting.clone()).await;
    let status = refused(answer, Code::Unimplemented, field);
    assert!(status.message().contains(field), "{field}: {status:?}");
    let answer = client.get_subscription(&name).await;
    refused(answer, Code::NotFound, "nothing was created");

    let before = ok(client.create_subscription(bare(&name, &topic)).await);
    if mutable {
        with_setting.labels = [("team".to_owned(), "billing".to_owned())].into();
        let paths = ["labels", field];
        let answer = client.update_subscription(with_setting, &paths).await;
        let status = refused(answer, Code::Unimplemented, field);
        assert!(status.message().contains(field), "{field}: {status:?}");
    }
    assert_eq!(ok(client.get_subscription(&name).await), before);
}

/// The same for a topic; every such field of a topic may change.
async fn refused_on_a_topic(field: &str, set: impl Fn(&mut Topic)) {
    let client = Pubsub::start().await.client();
    let bare = Topic {
        name: topic_name("orders"),
        ..Default::default()
    };
    let mut with_setting = bare.clone();
    set(&mut with_setting);
    let answer = client.create_topic(with_setting.clone()).await;
    let status = refused(answer, Code::Unimplemented, field);
    assert!(status.message().contains(field), "{field}: {status:?}");
    let answer = client.get_topic(&bare.name).await;
    refused(answer, Code::NotFound, "nothing was created");

    ok(client.create_topic(bare.clone()).await);
    with_setting.labels = [("team".to_owned(), "billing".to_owned())].into();
    let answer = client.update_topic(with_setting, &["labels", field]).await;
    let status = refused(answer, Code::Unimplemented, field);
    assert!(status.message().contains(field), "{field}: {status:?}");
    assert_eq!(ok(client.get_topic(&bare.name).await), bare);
}

#[expect(deprecated, reason = "the literal names every field")]
fn transforms() -> Vec<MessageTransform> {
    let script = JavaScriptUdf {
        function_name: "f".to_owned(),
        code: "function f(message, metadata) { return message; }".to_owned(),
    };
    vec![MessageTransform {
        enabled: false,
        disabled: false,
        transform: Some(Transform::JavascriptUdf(script)),
    }]
}

#[tokio::test]
async fn retaining_acked_messages_is_refused() {
    refused_on_a_subscription("retain_acked_messages", true, |s| {
        s.retain_acked_messages = true;
    })
    .await;
}

#[tokio::test]
async fn a_push_config_is_refused() {
    refused_on_a_subscription("push_config", true, |s| {
        s.push_config = Some(PushConfig {
            push_endpoint: "https://example.com/push".to_owned(),
            ..Default::default()
        });
    })
    .await;
}

#[tokio::test]
async fn a_bigquery_config_is_refused() {
    refused_on_a_subscription("bigquery_config", true, |s| {
        s.bigquery_config = Some(BigQueryConfig {
            table: "project.dataset.table".to_owned(),
            ..Default::default()
        });
    })
    .await;
}

#[tokio::test]
async fn a_cloud_storage_config_is_refused() {
    refused_on_a_subscription("cloud_storage_config", true, |s| {
        s.cloud_storage_config = Some(CloudStorageConfig {
            bucket: "bucket".to_owned(),
            ..Default::default()
        });
    })
    .await;
}

#[tokio::test]
async fn a_bigtable_config_is_refused() {
    refused_on_a_subscription("bigtable_config", true, |s| {
        s.bigtable_config = Some(BigtableConfig {
            table: "projects/p/instances/i/tables/t".to_owned(),
            ..Default::default()
        });
    })
    .await;
}

#[tokio::test]
async fn transforms_of_a_subscription_are_refused() {
    refused_on_a_subscription("message_transforms", true, |s| {
        s.message_transforms = transforms();
    })
    .await;
}

#[tokio::test]
async fn transforms_of_a_topic_are_refused() {
    refused_on_a_topic("message_transforms", |t| {
        t.message_transforms = transforms();
    })
    .await;
}

#[tokio::test]
async fn schema_settings_are_refused() {
    refused_on_a_topic("schema_settings", |t| {
        t.schema_settings = Some(SchemaSettings {
            schema: "projects/tests/schemas/order".to_owned(),
            encoding: Encoding::Json.into(),
            ..Default::default()
        });
    })
    .await;
}

#[tokio::test]
async fn case_13_topic_retention_is_refused() {
    refused_on_a_topic("message_retention_duration", |t| {
        t.message_retention_duration = days(1);
    })
    .await;
}

#[tokio::test]
async fn ingestion_settings_are_refused() {
    refused_on_a_topic("ingestion_data_source_settings", |t| {
        t.ingestion_data_source_settings = Some(IngestionDataSourceSettings {
            source: Some(Source::AwsKinesis(AwsKinesis::default())),
            ..Default::default()
        });
    })
    .await;
}
