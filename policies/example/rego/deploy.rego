# METADATA
# scope: package
# title: Deploy
# description: |
#   Pipelines release through the API. People do what the access rules say, and change something only on a device that we
#   trust.
# authors:
# - Platform <platform@corp.example>
package sallyport.app.deploy

import data.corp.device
import data.sallyport.authz

decision := {
	"allow": true,
	"reasons": [{"code": "allow", "rule": "pipeline"}],
} if {
	pipeline
} else := {
	"allow": false,
	"reasons": [{
		"code": "device",
		"rule": "trusted-device",
		"user": "To change something here, use a device that the company manages.",
		"admin": "changes need a device that is managed, compliant and encrypted",
	}],
} if {
	risky
} else := authz.access

# pipeline: a service that releases.
pipeline if {
	input.subject.type == "service"
	"deployers" in input.subject.groups
	input.action.method == "POST"
	startswith(input.resource.path, "/api/releases/")
}

# risky: the access rules would let somebody change something, and we do not trust the device.
risky if {
	authz.access.allow
	input.action.name != "read"
	not device.trusted
}
