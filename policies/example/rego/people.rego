# METADATA
# scope: package
# title: People
# description: Everybody may read their own page; for all else the access rules decide.
# authors:
# - HR systems <hr-it@corp.example>
package sallyport.app.people

import data.sallyport.authz

decision := {
	"allow": true,
	"reasons": [{"code": "allow", "rule": "own-page"}],
} if {
	own_page
} else := authz.access

# own_page: /people/ada@corp.example, read by ada@corp.example. Only an address that was verified names somebody.
own_page if {
	input.subject.type == "user"
	input.subject.email_verified
	input.action.name == "read"
	input.resource.segments == ["people", lower(input.subject.email)]
}
