package people_test

import data.sallyport.app.people

ada := {
	"subject": {"type": "user", "email": "Ada@corp.example", "email_verified": true},
	"action": {"name": "read", "method": "GET"},
	"resource": {"id": "people", "segments": ["people", "ada@corp.example"]},
}

test_her_own_page if people.own_page with input as ada

test_not_below_it if not people.own_page with input as ada with input.resource.segments as ["people", "ada@corp.example", "salary"]

test_an_unverified_address_names_nobody if not people.own_page with input as ada with input.subject.email_verified as false
