//! The gRPC services by name, without a router's patterns: a path is a service's name and a method's.

use std::{convert::Infallible, fmt, sync::Arc};

use axum::body::Body;
use futures_util::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use tonic::{Status, server::NamedService};
use tower::Service;

type Answer = dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// See the module.
#[derive(Clone, Default)]
pub struct Services(Vec<(&'static str, Arc<Answer>)>);

impl Services {
    /// These and one more. Those that are asked most come first.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: NamedService
            + Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let answer = move |request| {
            // What tonic generates is always ready.
            let answer = service.clone().call(request);
            let answer = answer.map(|answer| {
                let Ok(answer) = answer;
                answer.map(Body::new)
            });
            answer.boxed()
        };
        self.0.push((S::NAME, Arc::new(answer)));
        self
    }

    /// Answers a request; of a service that there is not, as tonic does.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let path = path.strip_prefix('/').unwrap_or_default();
        let is_called = |name: &str| {
            let method = path.strip_prefix(name);
            method.is_some_and(|method| method.starts_with('/'))
        };
        match self.0.iter().find(|(name, _)| is_called(name)) {
            Some((_, answer)) => answer(request).await,
            None => Status::unimplemented("").into_http(),
        }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        formatter.debug_list().entries(names).finish()
    }
}
