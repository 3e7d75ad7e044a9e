//! `google.iam.v1.IAMPolicy`: one thin function per RPC.

use tonic::{Request, Response, Status};

use super::order::contents;
use crate::{
    proto::google::iam::v1::{self as proto, iam_policy_server},
    rpc,
    service::{Guarded, WithPolicy},
    wire::{caller, convert},
};

/// The service as tonic calls it.
#[derive(Clone, Debug)]
pub(super) struct IamPolicy {
    service: Guarded,
}

impl IamPolicy {
    /// Answers with what `service` does.
    pub(super) const fn new(service: Guarded) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl iam_policy_server::IamPolicy for IamPolicy {
    async fn set_iam_policy(
        &self,
        request: Request<proto::SetIamPolicyRequest>,
    ) -> Result<Response<proto::Policy>, Status> {
        let (caller, request) = caller::with(request)?;
        let of = convert::iam::resource(&request.resource)?;
        let rpc = match of {
            WithPolicy::Topic(_) => &rpc::SET_TOPIC_POLICY,
            WithPolicy::Subscription(_) => &rpc::SET_SUBSCRIPTION_POLICY,
        };
        let service = self.service.permit(&caller, rpc, [of.as_str()]).await?;
        let policy = contents(convert::iam::to_set(request), service.policy(&of)).await?;
        let set = service.set_policy(&of, policy).await?;
        Ok(Response::new(convert::iam::to_proto(Some(&set))))
    }

    async fn get_iam_policy(
        &self,
        request: Request<proto::GetIamPolicyRequest>,
    ) -> Result<Response<proto::Policy>, Status> {
        let (caller, request) = caller::with(request)?;
        let of = convert::iam::resource(&request.resource)?;
        let rpc = match of {
            WithPolicy::Topic(_) => &rpc::GET_TOPIC_POLICY,
            WithPolicy::Subscription(_) => &rpc::GET_SUBSCRIPTION_POLICY,
        };
        let policy = self
            .service
            .permit(&caller, rpc, [of.as_str()])
            .await?
            .policy(&of)
            .await?;
        convert::iam::check_get(&request)?;
        Ok(Response::new(convert::iam::to_proto(policy.as_deref())))
    }

    async fn test_iam_permissions(
        &self,
        request: Request<proto::TestIamPermissionsRequest>,
    ) -> Result<Response<proto::TestIamPermissionsResponse>, Status> {
        let (caller, request) = caller::with(request)?;
        let of = convert::iam::resource(&request.resource)?;
        let service = self
            .service
            .permit(&caller, &rpc::TEST_PERMISSIONS, [])
            .await?;
        // What does not exist is no fault here, so nothing comes before what is asked.
        let permissions = convert::iam::to_test(request)?;
        // Nobody holds anything on what does not exist, and everybody everything on what does.
        let permissions = if service.has(&of).await? {
            permissions
        } else {
            Vec::new()
        };
        Ok(Response::new(proto::TestIamPermissionsResponse {
            permissions,
        }))
    }
}
