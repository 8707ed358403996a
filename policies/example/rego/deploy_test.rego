package deploy_test

import data.sallyport.app.deploy

release := {
	"subject": {"type": "service", "groups": ["deployers"]},
	"action": {"name": "write", "method": "POST"},
	"resource": {"id": "deploy", "path": "/api/releases/web"},
}

test_pipelines_release if deploy.pipeline with input as release

test_a_person_is_no_pipeline if not deploy.pipeline with input as release with input.subject.type as "user"

test_the_api_beside_releases_is_closed if {
	not deploy.pipeline with input as release with input.resource.path as "/api/releases-old"
}
