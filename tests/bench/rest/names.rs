//! A topic and its subscription, made over REST for one figure.

use bytes::Bytes;
use http::Method;

use crate::client::Connection;

/// Full names.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) topic: String,
    pub(crate) subscription: String,
}

impl Names {
    pub(crate) async fn create(address: &str) -> anyhow::Result<Self> {
        let id = getrandom::u64()?;
        let names = Self {
            topic: format!("projects/bench/topics/rest-{id:x}"),
            subscription: format!("projects/bench/subscriptions/rest-{id:x}"),
        };
        let mut connection = Connection::open(address).await?;
        let empty = Bytes::from_static(b"{}");
        let topic = format!("/v1/{}", names.topic);
        connection.call(Method::PUT, &topic, empty).await?;
        let subscription = format!("/v1/{}", names.subscription);
        let body = serde_json::json!({"topic": names.topic, "ackDeadlineSeconds": 600});
        let body = body.to_string().into();
        connection.call(Method::PUT, &subscription, body).await?;
        Ok(names)
    }

    pub(crate) async fn delete(&self, address: &str) -> anyhow::Result<()> {
        let mut connection = Connection::open(address).await?;
        for name in [&self.subscription, &self.topic] {
            let path = format!("/v1/{name}");
            connection.call(Method::DELETE, &path, Bytes::new()).await?;
        }
        Ok(())
    }
}
