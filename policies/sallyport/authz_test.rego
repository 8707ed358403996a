package sallyport.authz_test

import data.sallyport.authz
import data.sallyport.lib.say

# Apps the tests ask about, in the form in which the gateway writes data.sallyport.config.
config := {"timezone": "Europe/Berlin", "apps": {
	"wiki": {"name": "wiki", "own": false, "routing": everywhere, "rules": [{"id": "access/1", "plain": true, "groups": ["staff"]}]},
	"closed": {"name": "closed", "own": false, "routing": nowhere, "rules": []},
	"site": {"name": "site", "own": false, "routing": site_routing, "rules": [
		{"id": "open", "plain": true, "public": true, "methods": {"GET": true, "HEAD": true}, "paths": {
			"exact": {"/robots.txt": true, "/public": true},
			"below": ["/public/"],
		}},
		{"id": "shut", "plain": true, "paths": {"exact": {"/old": true}, "below": ["/old/"]}},
		{"id": "rest", "plain": true, "emails": {"ada@corp.example": true}, "domains": ["@partner.example"]},
	]},
	"payroll": {"name": "payroll", "own": false, "routing": everywhere, "rules": [{
		"id": "access/1", "groups": ["finance"],
		"step_up": {"type": "step_up", "mfa": true, "acr": ["gold", "platinum"], "max_age_s": 900},
		"demands": ["with more than one factor", "less than 15 minutes ago"],
	}]},
	"shop": {"name": "shop", "own": false, "routing": everywhere, "rules": [{
		"id": "access/1", "groups": ["a", "b", "c", "d", "e", "f", "g"],
		"hours": {"text": "mon-fri 08:00-18:00", "by_hour": {"mon": [[8, 12], [13, 18]]}},
		"networks": ["10.0.0.0/8", "2001:db8::/32"],
	}]},
	"late": {"name": "late", "own": false, "routing": everywhere, "rules": [{
		"id": "access/1", "public": true,
		"hours": {"text": "22:30-24:00", "by_minute": {"sun": [["22:30", "24:00"]]}},
	}]},
	"fenced": {"name": "fenced", "own": false, "routing": everywhere, "rules": [{
		"id": "access/1", "public": true, "networks": ["10.0.0.0/8"],
	}]},
	"mail": {"name": "mail", "own": false, "routing": everywhere, "rules": [{"id": "access/1", "plain": true, "domains": ["@corp.example"]}]},
	"mfa": {"name": "mfa", "own": false, "routing": everywhere, "rules": [{
		"id": "access/1", "groups": ["staff"],
		"step_up": {"type": "step_up", "mfa": true}, "demands": ["with more than one factor"],
	}]},
	"fresh": {"name": "fresh", "own": false, "routing": everywhere, "rules": [{
		"id": "access/1", "groups": ["staff"],
		"step_up": {"type": "step_up", "max_age_s": 60}, "demands": ["less than 1 minutes ago"],
	}]},
	"forms": {"name": "forms", "own": false, "routing": {"by": "method", "elsewhere": {"POST": 0, "*": -1}}, "rules": [{
		"id": "access/1", "plain": true, "public": true, "methods": {"POST": true},
	}]},
	"docs": {"name": "docs", "own": false, "routing": docs_routing, "rules": [
		{"id": "board", "plain": true, "groups": ["board"], "paths": {"exact": {"/team/board": true}, "below": ["/team/board/"]}},
		{"id": "team", "plain": true, "groups": ["team"], "paths": {"exact": {"/team": true, "/team/faq": true}, "below": ["/team/"]}},
	]},
	"own": {"name": "own", "own": true, "routing": everywhere, "rules": [{"id": "access/1", "plain": true, "groups": ["staff"]}]},
}}

everywhere := {"by": "nothing", "elsewhere": {"*": 0}}

nowhere := {"by": "nothing", "elsewhere": {"*": -1}}

site_routing := {
	"by": "both",
	"exact": {
		"/robots.txt": {"GET": 0, "HEAD": 0, "*": 2},
		"/public": {"GET": 0, "HEAD": 0, "*": 2},
		"/old": {"*": 1},
	},
	"folders": ["/public/", "/old/"],
	"below": [
		{"folder": "/public/", "places": {"GET": 0, "HEAD": 0, "*": 2}},
		{"folder": "/old/", "places": {"*": 1}},
	],
	"elsewhere": {"*": 2},
}

docs_routing := {
	"by": "path",
	"exact": {"/team": {"*": 1}, "/team/faq": {"*": 1}, "/team/board": {"*": 0}},
	"folders": ["/team/board/", "/team/"],
	"below": [{"folder": "/team/board/", "places": {"*": 0}}, {"folder": "/team/", "places": {"*": 1}}],
	"elsewhere": {"*": -1},
}

ask(request) := decision if {
	decision := authz.decision with input as request with data.sallyport.config as config
}

code(request) := ask(request).reasons[0].code

rule(request) := ask(request).reasons[0].rule

user(request) := ask(request).reasons[0].user

admin(request) := ask(request).reasons[0].admin

person(app, groups) := {
	"subject": {
		"type": "user", "email": "Ada@Corp.Example", "email_verified": true, "groups": groups,
		"authn": {"mfa": true, "acr": "gold", "age_s": 840},
	},
	"action": {"method": "GET"},
	"resource": {"id": app, "path": "/"},
	"context": {
		"weekday": "mon", "hour": 9, "time": "2026-11-23T09:00:00+01:00",
		"client": {"ip": "10.1.2.3"},
	},
}

stranger(app, path) := {
	"subject": {"type": "anonymous", "email_verified": false, "groups": []},
	"action": {"method": "GET"},
	"resource": {"id": app, "path": path},
	"context": {"weekday": "sun", "hour": 23, "time": "2026-11-22T23:59:59+01:00", "client": {}},
}

with_path(request, path) := json.patch(request, [{"op": "replace", "path": "/resource/path", "value": path}])

replaced(request, path, value) := json.patch(request, [{"op": "replace", "path": path, "value": value}])

removed(request, path) := json.patch(request, [{"op": "remove", "path": path}])

test_group_is_admitted if {
	ask(person("wiki", ["staff"])) == {"allow": true, "reasons": [{"code": "allow", "rule": "access/1"}]}
}

test_other_group_is_not if {
	d := ask(person("wiki", ["sales"]))
	not d.allow
	code(person("wiki", ["sales"])) == "not_listed"
	user(person("wiki", ["sales"])) == "You are not in a group that may open wiki: staff."
	admin(person("wiki", ["sales"])) == "access/1 admits groups staff"
}

test_app_without_rules_admits_nobody if {
	code(person("closed", ["staff"])) == "no_rule"
	code(stranger("closed", "/")) == "unauthenticated"
}

test_unknown_app_is_undefined if not ask(person("nowhere", ["staff"]))

test_public_paths_admit_strangers if {
	every path in ["/robots.txt", "/public", "/public/", "/public/a/b"] {
		ask(stranger("site", path)).allow
	}
}

test_paths_beside_them_do_not if {
	every path in ["/", "/publicity", "/robots.txt/", "/robots.txt2", "/x/public/"] {
		code(stranger("site", path)) == "unauthenticated"
	}
}

test_public_rule_holds_for_its_methods_only if {
	ask(replaced(stranger("site", "/public"), "/action/method", "HEAD")).allow
	code(replaced(stranger("site", "/public"), "/action/method", "POST")) == "unauthenticated"
}

test_methods_alone if {
	ask(replaced(stranger("forms", "/x"), "/action/method", "POST")).allow
	code(stranger("forms", "/x")) == "unauthenticated"
	code(person("forms", [])) == "no_rule"
}

test_first_matching_rule_decides_alone if {
	code(with_path(person("site", []), "/old")) == "not_listed"
	rule(with_path(person("site", []), "/old/x")) == "shut"
	user(with_path(person("site", []), "/old")) == "This part of site is closed."
	admin(with_path(person("site", []), "/old")) == "shut admits nobody"
	ask(with_path(person("site", []), "/older")).allow
	rule(with_path(person("site", []), "/public")) == "open"
}

test_innermost_folder_decides if {
	every path in ["/team", "/team/", "/team/faq", "/team/x", "/team/boardroom"] {
		rule(with_path(person("docs", ["team"]), path)) == "team"
	}
	every path in ["/team/board", "/team/board/", "/team/board/x"] {
		rule(with_path(person("docs", ["board"]), path)) == "board"
	}
	every path in ["/", "/teams", "/x/team/"] {
		code(with_path(person("docs", ["team"]), path)) == "no_rule"
	}
}

test_email_is_compared_without_case if ask(person("site", [])).allow

test_email_counts_only_when_verified if {
	code(replaced(person("site", []), "/subject/email_verified", false)) == "not_listed"
	code(removed(person("site", []), "/subject/email")) == "not_listed"
}

test_domain_is_the_whole_domain if {
	ask(replaced(person("site", []), "/subject/email", "bob@partner.example")).allow
	every email in ["bob@sub.partner.example", "bob@xpartner.example", "bob@partner.example.evil.example", "partner.example"] {
		code(replaced(person("site", []), "/subject/email", email)) == "not_listed"
	}
	user(replaced(person("site", []), "/subject/email", "x@y.example")) == "You are not among the people who may open site."
	admin(replaced(person("site", []), "/subject/email", "x@y.example")) == "rest admits 1 e-mail addresses; domains @partner.example"
}

test_strong_and_fresh_sign_in_is_assured if ask(person("payroll", ["finance"])).allow

test_each_demand_stands_alone if {
	ask(person("mfa", ["staff"])).allow
	ask(json.patch(person("mfa", ["staff"]), [{"op": "remove", "path": "/subject/authn/age_s"}])).allow
	code(person("fresh", ["staff"])) == "step_up"
	ask(json.patch(person("fresh", ["staff"]), [
		{"op": "replace", "path": "/subject/authn/age_s", "value": 0},
		{"op": "replace", "path": "/subject/authn/mfa", "value": false},
	])).allow
}

step_up := {"type": "step_up", "mfa": true, "acr": ["gold", "platinum"], "max_age_s": 900}

test_weak_or_stale_sign_in_steps_up if {
	every change in [
		{"op": "replace", "path": "/subject/authn/mfa", "value": false},
		{"op": "remove", "path": "/subject/authn/mfa"},
		{"op": "replace", "path": "/subject/authn/acr", "value": "silver"},
		{"op": "remove", "path": "/subject/authn/acr"},
		{"op": "replace", "path": "/subject/authn/age_s", "value": 900},
		{"op": "remove", "path": "/subject/authn/age_s"},
		{"op": "remove", "path": "/subject/authn"},
	] {
		d := ask(json.patch(person("payroll", ["finance"]), [change]))
		not d.allow
		d.reasons[0].code == "step_up"
		d.reasons[0].user == "To open payroll you need to sign in again: with more than one factor, less than 15 minutes ago."
		d.reasons[0].admin == "access/1 demands with more than one factor, less than 15 minutes ago"
		d.obligations == [step_up]
	}
}

test_no_step_up_for_people_who_are_not_listed if {
	d := ask(replaced(person("payroll", ["sales"]), "/subject/authn/mfa", false))
	d.reasons[0].code == "not_listed"
	not d.obligations
}

test_domain_alone if {
	ask(person("mail", [])).allow
	user(replaced(person("mail", []), "/subject/email", "x@y.example")) == "You are not among the people who may open mail."
}

test_hours if {
	every hour in [8, 11, 13, 17] {
		ask(replaced(person("shop", ["a"]), "/context/hour", hour)).allow
	}
	every hour in [7, 12, 18] {
		code(replaced(person("shop", ["a"]), "/context/hour", hour)) == "hours"
	}
	code(replaced(person("shop", ["a"]), "/context/weekday", "tue")) == "hours"
	user(replaced(person("shop", ["a"]), "/context/hour", 7)) == "shop is open mon-fri 08:00-18:00 (Europe/Berlin)."
	admin(replaced(person("shop", ["a"]), "/context/hour", 7)) == "access/1 admits the person only mon-fri 08:00-18:00 (Europe/Berlin)"
}

test_hours_to_the_minute if {
	every time in ["22:30:00", "23:59:59"] {
		ask(replaced(stranger("late", "/"), "/context/time", sprintf("2026-11-22T%s+01:00", [time]))).allow
	}
	code(replaced(stranger("late", "/"), "/context/time", "2026-11-22T22:29:59+01:00")) == "hours"
	code(replaced(stranger("late", "/"), "/context/weekday", "mon")) == "hours"
}

test_networks if {
	every ip in ["10.0.0.0", "10.255.255.255", "2001:db8::1"] {
		ask(replaced(person("shop", ["a"]), "/context/client/ip", ip)).allow
	}
	every ip in ["11.0.0.1", "2001:db9::1"] {
		code(replaced(person("shop", ["a"]), "/context/client/ip", ip)) == "network"
	}
	code(removed(person("shop", ["a"]), "/context/client/ip")) == "network"
	user(replaced(person("shop", ["a"]), "/context/client/ip", "11.0.0.1")) == "shop cannot be opened from the network you are in."
	admin(replaced(person("shop", ["a"]), "/context/client/ip", "11.0.0.1")) == "access/1 admits the person only from 10.0.0.0/8, 2001:db8::/32"
}

# Signing in would not help a stranger whom a public rule turns away.
test_unmet_condition_of_a_public_rule_is_no_reason_to_sign_in if code(stranger("fenced", "/")) == "network"

test_pages_name_five_groups if {
	user(person("shop", [])) == "You are not in a group that may open shop: a, b, c, d, e and 2 more."
}

test_app_package_replaces_the_access_rules if {
	d := authz.decision with input as person("own", [])
		with data.sallyport.config as config
		with data.sallyport.app as {"own": {"decision": {"allow": true}}}
	d == {"allow": true}
}

test_app_package_answers_strangers_too if {
	d := authz.decision with input as stranger("own", "/")
		with data.sallyport.config as config
		with data.sallyport.app as {"own": {"decision": {"allow": true}}}
	d == {"allow": true}
}

test_app_package_can_ask_the_access_rules if {
	d := authz.access with input as person("own", ["staff"]) with data.sallyport.config as config
	d.allow
	e := authz.access with input as person("own", ["sales"]) with data.sallyport.config as config
	e.reasons[0].code == "not_listed"
}

test_silent_app_package_asks_strangers_to_sign_in if {
	code(stranger("own", "/")) == "unauthenticated"
}

test_silent_app_package_is_undefined_for_others if not ask(person("own", ["staff"]))

socket(site) := {
	"subject": {"type": "user", "groups": ["staff"]},
	"action": {"name": "connect", "method": "GET", "upgrade": "websocket"},
	"resource": {"id": site, "path": "/"},
	"context": {"request": {"cross_origin": true}},
}

test_foreign_page_opens_no_websocket if {
	d := authz.decision with input as socket("wiki") with data.sallyport.config as config
	not d.allow
	d.reasons[0].code == "cross_origin"
}

test_foreign_page_opens_no_websocket_to_an_unknown_app if {
	d := authz.decision with input as socket("nowhere") with data.sallyport.config as config
	d.reasons[0].code == "cross_origin"
}

test_own_page_opens_a_websocket if {
	own := json.patch(socket("wiki"), [{"op": "replace", "path": "/context/request/cross_origin", "value": false}])
	authz.decision.allow with input as own with data.sallyport.config as config
}

test_foreign_page_may_be_opened if {
	page := json.patch(socket("wiki"), [{"op": "replace", "path": "/action/name", "value": "read"}])
	authz.decision.allow with input as page with data.sallyport.config as config
}

test_no_app_package_opens_a_websocket_to_foreign_pages if {
	d := authz.decision with input as socket("own")
		with data.sallyport.config as {"timezone": "UTC", "apps": {"own": {"name": "own", "own": true, "routing": nowhere, "rules": []}}}
		with data.sallyport.app as {"own": {"decision": {"allow": true}}}
	d.reasons[0].code == "cross_origin"
}

# What an app has to be defended from. "guarded" blocks by inspection, "shared" admits other sites' pages, "packed" and
# "shy" have a package of their own.
guarded := object.union(config, {"apps": object.union(config.apps, {
	"guarded": {"name": "guarded", "own": false, "routing": everywhere, "shield_threshold": 5, "rules": [{"id": "access/1", "plain": true, "public": true}]},
	"shared": {"name": "shared", "own": false, "routing": everywhere, "cross_site": true, "rules": [{"id": "access/1", "plain": true, "groups": ["staff"]}]},
	"packed": {"name": "packed", "own": true, "routing": nowhere, "shield_threshold": 5, "rules": []},
	"shy": {"name": "shy", "own": true, "routing": nowhere, "shield_threshold": 5, "rules": []},
	"again": {"name": "again", "own": true, "routing": nowhere, "shield_threshold": 5, "rules": []},
	"vault": {"name": "vault", "own": false, "routing": everywhere, "client_cert": true, "rules": [{"id": "access/1", "plain": true, "groups": ["staff"]}]},
	"door": {"name": "door", "own": false, "routing": everywhere, "client_cert": true, "rules": [{"id": "access/1", "plain": true, "public": true}]},
	"staffed": {"name": "staffed", "own": false, "routing": everywhere, "providers": {"corp": true, "lab": true}, "rules": [{"id": "access/1", "plain": true, "groups": ["staff"]}]},
	"lobby": {"name": "lobby", "own": false, "routing": everywhere, "providers": {"lab": true}, "rules": [{"id": "access/1", "plain": true, "public": true}]},
	"safe": {"name": "safe", "own": true, "routing": nowhere, "client_cert": true, "rules": []},
})})

packages := {
	"packed": {"decision": {"allow": true, "reasons": [{"code": "mine"}], "obligations": [{"type": "reauthorize", "every_s": 60}]}},
	"shy": {"decision": {"allow": false, "reasons": [{"code": "mine"}]}},
	"safe": {"decision": {"allow": true, "reasons": [{"code": "mine"}]}},
	"again": {"decision": {"allow": true, "reasons": [{"code": "mine"}], "obligations": [{"type": "step_up", "mfa": true}]}},
}

judged(request) := decision if {
	decision := authz.decision with input as request with data.sallyport.config as guarded with data.sallyport.app as packages
}

sent_across(request) := json.patch(request, [{"op": "add", "path": "/context/request", "value": {"cross_site_unsafe": true}}])

inspected(request, findings) := json.patch(request, [{"op": "add", "path": "/context/shield", "value": findings}])

findings(score, timeout) := {"score": score, "rules": [942100], "body": "whole", "timeout": timeout}

denied_for(request, reason) if {
	decision := judged(request)
	decision.allow == false
	count(decision.reasons) == 1
	decision.reasons[0].code == reason
	decision.reasons[0].user != ""
	decision.reasons[0].admin != ""
}

test_page_of_another_site_changes_nothing if {
	denied_for(sent_across(person("wiki", ["staff"])), "cross_site")
	denied_for(sent_across(stranger("site", "/public/x")), "cross_site")
	denied_for(sent_across(person("packed", [])), "cross_site")
}

test_own_page_may_change_something if {
	judged(replaced(sent_across(person("wiki", ["staff"])), "/context/request/cross_site_unsafe", false)).allow
}

test_app_can_admit_pages_of_other_sites if judged(sent_across(person("shared", ["staff"]))).allow

test_whoever_is_refused_anyway_hears_of_that if {
	denied_for(sent_across(person("wiki", ["sales"])), "not_listed")
	denied_for(sent_across(stranger("wiki", "/")), "unauthenticated")
	denied_for(sent_across(stranger("nowhere", "/")), "unauthenticated")
	denied_for(inspected(sent_across(stranger("site", "/other")), findings(50, true)), "unauthenticated")
	judged(sent_across(person("shy", ["staff"]))) == packages.shy.decision
	judged(inspected(person("shy", ["staff"]), findings(50, true))) == packages.shy.decision
	judged(sent_across(person("again", []))) == packages.again.decision
	judged(inspected(person("again", []), findings(50, true))) == packages.again.decision
	denied_for(inspected(sent_across(removed(person("mfa", ["staff"]), "/subject/authn/mfa")), findings(50, true)), "step_up")
}

test_score_of_the_threshold_is_refused if {
	denied_for(inspected(person("guarded", []), findings(5, false)), "shield")
	denied_for(inspected(stranger("guarded", "/"), findings(50, false)), "shield")
	denied_for(inspected(person("packed", []), findings(5, false)), "shield")
	denied_for(inspected(person("packed", []), findings(5, true)), "shield")
	contains(judged(inspected(person("guarded", []), findings(7, false))).reasons[0].admin, "a score of 7; the app refuses from 5")
}

test_score_below_the_threshold_is_none if {
	judged(inspected(person("guarded", []), findings(4, false))).allow
	judged(inspected(person("packed", []), findings(0, false))) == packages.packed.decision
}

test_inspection_out_of_time_is_refused if {
	denied_for(inspected(person("guarded", []), findings(0, true)), "shield_timeout")
	denied_for(inspected(stranger("guarded", "/"), findings(4, true)), "shield_timeout")
	denied_for(inspected(person("packed", []), findings(0, true)), "shield_timeout")
}

test_app_without_a_threshold_detects_only if judged(inspected(person("wiki", ["staff"]), findings(50, true))).allow

test_request_that_was_not_inspected_is_not_refused_for_it if {
	judged(person("guarded", [])).allow
	judged(person("packed", [])) == packages.packed.decision
}

test_findings_without_a_score_are_refused if {
	denied_for(inspected(person("guarded", []), {"timeout": false}), "shield")
	denied_for(inspected(person("packed", []), {"timeout": false}), "shield")
	denied_for(inspected(person("guarded", []), {"score": 0}), "shield_timeout")
}

test_empty_findings_are_refused if {
	denied_for(inspected(person("guarded", []), {}), "shield")
	contains(judged(inspected(person("guarded", []), {})).reasons[0].admin, "a score of nothing")
}

test_other_sites_come_before_findings if {
	denied_for(inspected(sent_across(person("guarded", [])), findings(50, true)), "cross_site")
}

showing(request) := json.patch(request, [{"op": "add", "path": "/subject/cert", "value": {"fingerprint": "00"}}])

failing(request, problem) := json.patch(request, [{"op": "add", "path": "/subject/cert_problem", "value": problem}])

test_app_that_demands_a_certificate_opens_to_nobody_without if {
	denied_for(person("vault", ["staff"]), "client_certificate")
	denied_for(stranger("door", "/"), "client_certificate")
	denied_for(person("safe", []), "client_certificate")
	denied_for(failing(person("safe", []), "revoked"), "client_certificate")
}

test_app_that_demands_a_certificate_opens_with_one if {
	judged(showing(person("vault", ["staff"]))).allow
	judged(showing(stranger("door", "/"))).allow
	judged(showing(person("safe", []))) == packages.safe.decision
}

test_certificate_is_a_factor_and_no_way_in if {
	denied_for(showing(stranger("vault", "/")), "unauthenticated")
	denied_for(showing(person("vault", ["sales"])), "not_listed")
}

test_whoever_would_not_pass_hears_nothing_of_certificates if {
	denied_for(stranger("vault", "/"), "unauthenticated")
	denied_for(person("vault", ["sales"]), "not_listed")
}

test_certificate_comes_before_other_sites if {
	denied_for(sent_across(person("vault", ["staff"])), "client_certificate")
	denied_for(showing(sent_across(person("vault", ["staff"]))), "cross_site")
}

test_what_is_wrong_with_a_certificate_is_said if {
	sentence(judged(person("vault", ["staff"]))) == "vault opens only for clients that show a certificate. Yours showed none."
	every problem, words in say.certificate_problems {
		denied := judged(failing(person("vault", ["staff"]), problem))
		endswith(sentence(denied), sprintf("does not count: %s.", [words]))
		endswith(denied.reasons[0].admin, problem)
	}
}

test_problem_without_words_is_refused_all_the_same if {
	denied_for(failing(person("vault", ["staff"]), "something new"), "client_certificate")
	contains(sentence(judged(failing(person("vault", ["staff"]), "something new"))), "it could not be verified")
}

bearing(request, apps, methods) := json.patch(request, [{"op": "add", "path": "/subject/token", "value": {
	"id": "pat_1", "kind": "personal", "name": "build", "apps": apps, "methods": methods, "scopes": [], "expires": "2026-12-01T00:00:00Z",
}}])

asking(request, method) := json.patch(request, [{"op": "replace", "path": "/action/method", "value": method}])

from_provider(request, name) := json.patch(request, [{"op": "add", "path": "/subject/authn/provider", "value": name}])

test_token_is_good_for_what_it_names if {
	judged(bearing(person("wiki", ["staff"]), ["wiki"], ["GET"])).allow
	judged(bearing(person("wiki", ["staff"]), ["payroll", "wiki"], ["*"])).allow
	judged(bearing(person("wiki", ["staff"]), ["*"], ["*"])).allow
	judged(asking(bearing(person("wiki", ["staff"]), ["*"], ["GET"]), "HEAD")).allow
	judged(asking(bearing(person("wiki", ["staff"]), ["wiki"], ["GET", "POST"]), "POST")).allow
}

test_token_is_good_for_nothing_else if {
	denied_for(bearing(person("wiki", ["staff"]), ["payroll"], ["*"]), "token_scope")
	denied_for(bearing(person("wiki", ["staff"]), ["wiki"], ["POST"]), "token_scope")
	denied_for(bearing(person("wiki", ["staff"]), [], ["*"]), "token_scope")
	denied_for(bearing(person("wiki", ["staff"]), ["*"], []), "token_scope")
	denied_for(asking(bearing(person("wiki", ["staff"]), ["wiki"], ["GET"]), "POST"), "token_scope")
	denied_for(asking(bearing(person("wiki", ["staff"]), ["wiki"], ["HEAD"]), "GET"), "token_scope")
	denied_for(removed(bearing(person("wiki", ["staff"]), ["wiki"], ["GET"]), "/subject/token/apps"), "token_scope")
	denied_for(removed(bearing(person("wiki", ["staff"]), ["wiki"], ["GET"]), "/subject/token/methods"), "token_scope")
}

connecting(request) := json.patch(request, [{"op": "replace", "path": "/action", "value": {
	"name": "connect", "method": "GET", "upgrade": "websocket",
}}])

test_token_for_reading_opens_no_websocket if {
	denied_for(connecting(bearing(person("wiki", ["staff"]), ["wiki"], ["GET"])), "token_scope")
	denied_for(connecting(bearing(person("wiki", ["staff"]), ["wiki"], ["GET", "HEAD", "OPTIONS"])), "token_scope")
	denied_for(connecting(bearing(person("wiki", ["staff"]), ["wiki"], ["POST"])), "token_scope")
	denied_for(connecting(bearing(person("wiki", ["staff"]), ["payroll"], ["*"])), "token_scope")
	judged(connecting(bearing(person("wiki", ["staff"]), ["wiki"], ["GET", "POST"]))).allow
	judged(connecting(bearing(person("wiki", ["staff"]), ["wiki"], ["*"]))).allow
	judged(connecting(person("wiki", ["staff"]))).allow
	sentence(judged(connecting(bearing(person("wiki", ["staff"]), ["wiki"], ["GET"])))) == "The token is not good for WebSocket requests to wiki."
}

test_token_is_no_way_in if {
	denied_for(bearing(person("wiki", ["sales"]), ["*"], ["*"]), "not_listed")
	denied_for(bearing(person("vault", ["staff"]), ["*"], ["*"]), "client_certificate")
}

test_no_package_widens_a_token if {
	judged(bearing(showing(person("safe", [])), ["safe"], ["GET"])) == packages.safe.decision
	denied_for(bearing(showing(person("safe", [])), ["wiki"], ["GET"]), "token_scope")
}

test_what_a_token_lacks_is_said if {
	denied := judged(bearing(person("wiki", ["staff"]), ["payroll"], ["GET"]))
	sentence(denied) == "The token is not good for GET requests to wiki."
	denied.reasons[0].admin == "the token is for methods GET of apps payroll"
}

test_app_is_for_people_of_its_providers if {
	judged(from_provider(person("staffed", ["staff"]), "corp")).allow
	judged(from_provider(person("staffed", ["staff"]), "lab")).allow
	denied_for(from_provider(person("staffed", ["staff"]), "partner"), "provider")
	denied_for(from_provider(person("lobby", []), "corp"), "provider")
	denied_for(removed(person("staffed", ["staff"]), "/subject/authn"), "provider")
	denied_for(from_provider(person("staffed", ["sales"]), "partner"), "not_listed")
}

test_providers_are_about_people if {
	judged(stranger("lobby", "/")).allow
	judged(json.patch(from_provider(person("staffed", ["staff"]), "ci"), [{"op": "replace", "path": "/subject/type", "value": "service"}])).allow
}

test_other_provider_is_named if {
	denied := judged(from_provider(person("staffed", ["staff"]), "partner"))
	sentence(denied) == "staffed is for people who sign in with corp or lab, and you signed in with partner."
	contains(sentence(judged(removed(person("staffed", ["staff"]), "/subject/authn"))), "with none")
}

sentence(decision) := decision.reasons[0].user
