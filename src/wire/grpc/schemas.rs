//! `google.pubsub.v1.SchemaService`, of which nothing is here yet: a list is empty, and who may call another RPC hears so.

use tonic::{Request, Response, Status};

use super::status::unimplemented;
use crate::{
    proto::google::pubsub::v1::{self as proto, schema_service_server},
    resource::{name::ProjectName, page::PageRequest},
    rpc,
    service::Guarded,
    wire::caller,
};

/// The service as tonic calls it.
#[derive(Clone, Debug)]
pub(super) struct Schemas {
    service: Guarded,
}

impl Schemas {
    /// Asks `service` who may call.
    pub(super) const fn new(service: Guarded) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl schema_service_server::SchemaService for Schemas {
    async fn create_schema(
        &self,
        request: Request<proto::CreateSchemaRequest>,
    ) -> Result<Response<proto::Schema>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.parent.as_str()];
        unimplemented(&self.service, &caller, &rpc::CREATE_SCHEMA, on).await
    }

    async fn get_schema(
        &self,
        request: Request<proto::GetSchemaRequest>,
    ) -> Result<Response<proto::Schema>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.name.as_str()];
        unimplemented(&self.service, &caller, &rpc::GET_SCHEMA, on).await
    }

    async fn list_schemas(
        &self,
        request: Request<proto::ListSchemasRequest>,
    ) -> Result<Response<proto::ListSchemasResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let project = ProjectName::parse("name", &request.parent)?;
        self.service
            .permit(&caller, &rpc::LIST_SCHEMAS, [project.as_str()])
            .await?;
        let list = format!("{}/schemas", project.as_str());
        PageRequest::parse(&list, request.page_size, &request.page_token)?;
        Ok(Response::new(proto::ListSchemasResponse::default()))
    }

    async fn list_schema_revisions(
        &self,
        request: Request<proto::ListSchemaRevisionsRequest>,
    ) -> Result<Response<proto::ListSchemaRevisionsResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.name.as_str()];
        unimplemented(&self.service, &caller, &rpc::LIST_SCHEMA_REVISIONS, on).await
    }

    async fn commit_schema(
        &self,
        request: Request<proto::CommitSchemaRequest>,
    ) -> Result<Response<proto::Schema>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.name.as_str()];
        unimplemented(&self.service, &caller, &rpc::COMMIT_SCHEMA, on).await
    }

    async fn rollback_schema(
        &self,
        request: Request<proto::RollbackSchemaRequest>,
    ) -> Result<Response<proto::Schema>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.name.as_str()];
        unimplemented(&self.service, &caller, &rpc::ROLLBACK_SCHEMA, on).await
    }

    async fn delete_schema_revision(
        &self,
        request: Request<proto::DeleteSchemaRevisionRequest>,
    ) -> Result<Response<proto::Schema>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.name.as_str()];
        unimplemented(&self.service, &caller, &rpc::DELETE_SCHEMA_REVISION, on).await
    }

    async fn delete_schema(
        &self,
        request: Request<proto::DeleteSchemaRequest>,
    ) -> Result<Response<()>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.name.as_str()];
        unimplemented(&self.service, &caller, &rpc::DELETE_SCHEMA, on).await
    }

    async fn validate_schema(
        &self,
        request: Request<proto::ValidateSchemaRequest>,
    ) -> Result<Response<proto::ValidateSchemaResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.parent.as_str()];
        unimplemented(&self.service, &caller, &rpc::VALIDATE_SCHEMA, on).await
    }

    async fn validate_message(
        &self,
        request: Request<proto::ValidateMessageRequest>,
    ) -> Result<Response<proto::ValidateMessageResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let on = [request.parent.as_str()];
        unimplemented(&self.service, &caller, &rpc::VALIDATE_MESSAGE, on).await
    }
}
