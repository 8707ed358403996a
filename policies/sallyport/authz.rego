# METADATA
# scope: package
# title: Decision
# description: |
#   The one question the gateway asks, data.sallyport.authz.decision, and the answer that the apps' access rules give,
#   data.sallyport.authz.access. An app package, sallyport.app["<name>"], replaces the former for its app and may build
#   upon the latter.
package sallyport.authz

import data.sallyport.lib.condition
import data.sallyport.lib.say

app := data.sallyport.config.apps[input.resource.id]

# A page of another origin cannot open a WebSocket in its reader's name: browsers send cookies with the handshake and
# leave it to the server to look at Origin (RFC 6455 §10.2). No app package can allow it; an app's websocket_origins can.
# The denial names the app as the request does: were its sentence ever undefined, what follows would be asked.
decision := denial("cross_origin", "", say.cross_origin(input.resource.id), say.cross_origin_admin) if {
	input.action.name == "connect"
	input.context.request.cross_origin
} else := denial("client_certificate", "", say.client_certificate(input.resource.id), say.client_certificate_admin) if {
	# What is to be refused without a client certificate is so whatever its package makes of that: see below.
	app.client_cert
	not input.subject.cert
	allowed
} else := denial("provider", "", say.provider(input.resource.id, app.providers), say.provider_admin(app.providers)) if {
	# Whose people an app is for no package of it can widen. Programs are nobody's people: rules name them or do not.
	app.providers
	input.subject.type == "user"
	not provided
	allowed
} else := denial("token_scope", "", say.token_scope(input.resource.id, asked), say.token_scope_admin(input.subject.token)) if {
	# A token is good for what it was made for, whatever its bearer may do besides.
	input.subject.token
	not covered
	allowed
} else := denial("cross_site", "", say.cross_site(input.resource.id), say.cross_site_admin) if {
	# A request that the app would have to defend itself from is refused if it would else be allowed: whoever is refused
	# anyway, or has yet to sign in, hears of that and no more. No app package can allow it either; the app's cross_site and
	# shield can.
	input.context.request.cross_site_unsafe
	not app.cross_site
	allowed
} else := denial("shield", "", say.shield(input.resource.id), say.shield_admin(input.context.shield, app.shield_threshold)) if {
	found := input.context.shield
	threshold := app.shield_threshold
	object.get(found, "score", threshold) >= threshold
	allowed
} else := denial("shield_timeout", "", say.shield_timeout(input.resource.id), say.shield_timeout_admin) if {
	found := input.context.shield
	app.shield_threshold
	object.get(found, "timeout", true)
	allowed
} else := granted if {
	app.own == false
} else := refused if {
	not app.own
} else := data.sallyport.app[input.resource.id].decision if {
	app.own
} else := unauthenticated if {
	# An app package that has no answer for a stranger asks them to sign in; for anybody else no answer means no.
	input.subject.type == "anonymous"
}

# allowed: the app's rules let the request pass, or its package does, and demands no other sign-in first.
allowed if {
	app.own == false
	granted
}

allowed if {
	app.own
	decided := data.sallyport.app[input.resource.id].decision
	decided.allow
	not steps_up(decided)
}

# provided: the person comes from a provider that the app is for. In a rule of its own, since a provider that is not there
# must not make the denial above undefined.
provided if app.providers[input.subject.authn.provider]

# covered: the token that was shown is good for the app and the method.
covered if {
	some name in {"*", input.resource.id}
	name in input.subject.token.apps
	covered_method
}

covered_method if "*" in input.subject.token.methods

covered_method if {
	not connects
	some method in covering
	method in input.subject.token.methods
}

# A WebSocket begins with GET and goes both ways: a token that is good for reading alone must not write by way of it.
covered_method if {
	connects
	"GET" in input.subject.token.methods
	"POST" in input.subject.token.methods
}

connects if input.action.name == "connect"

# What may be read may be asked about (RFC 9110 §9.3.2).
covering := {"GET", "HEAD"} if {
	input.action.method == "HEAD"
} else := {input.action.method}

# asked is the kind of request, in the words of a denial.
asked := "WebSocket" if {
	connects
} else := input.action.method

steps_up(decided) if {
	some obligation in decided.obligations
	obligation.type == "step_up"
}

# access is what the app's access rules say. What it can depend on is worked out of granted and refused, app by app.
access := decided if {
	decided := granted
} else := refused

# Most rules name groups: asking for one of them here saves a call of a function.
granted := {"allow": true, "reasons": [{"code": "allow", "rule": rule.id}]} if {
	rule := deciding
	some group in rule.groups
	group in input.subject.groups
	condition.met(rule)
} else := {"allow": true, "reasons": [{"code": "allow", "rule": rule.id}]} if {
	rule := deciding
	condition.listed(rule)
	condition.met(rule)
}

# deciding is the first rule whose methods and paths match: app.routing says at which place of the list that is. Only apps
# with rules for methods or paths look at them. What most requests need comes first, in one piece: each function called and
# each rule asked costs as much as three expressions.
deciding := here.rules[place] if {
	here := app
	routing := here.routing
	routing.by == "both"
	path := input.resource.path
	not strings.any_prefix_match(path, routing.folders)
	places := object.get(routing.exact, path, routing.elsewhere)
	place := object.get(places, input.action.method, places["*"])
} else := app.rules[app.routing.elsewhere["*"]] if {
	app.routing.by == "nothing"
} else := app.rules[object.get(places, input.action.method, places["*"])] if {
	app.routing.by == "method"
	places := app.routing.elsewhere
} else := app.rules[around["*"]] if {
	app.routing.by == "path"
} else := app.rules[object.get(places, input.action.method, places["*"])] if {
	app.routing.by == "both"
	places := around
}

# around are the places for the path: its own, or those of the longest of the folders it is in, or those of all other paths.
around := object.get(app.routing.exact, input.resource.path, app.routing.elsewhere) if {
	not strings.any_prefix_match(input.resource.path, app.routing.folders)
} else := object.get(app.routing.exact, input.resource.path, innermost)

innermost := [b.places | some b in app.routing.below; startswith(input.resource.path, b.folder)][0]

refused := unauthenticated if {
	input.subject.type == "anonymous"
	not deciding.public
}

refused := denial("no_rule", "", say.no_rule(app.name), say.no_rule_admin(app.name)) if {
	input.subject.type != "anonymous"
	not deciding
}

refused := denial("not_listed", rule.id, say.not_listed(app.name, rule), say.not_listed_admin(rule)) if {
	input.subject.type != "anonymous"
	rule := deciding
	not condition.listed(rule)
}

refused := denial("hours", rule.id, say.hours(app.name, rule), say.hours_admin(rule)) if {
	rule := deciding
	condition.listed(rule)
	not condition.open(rule)
}

refused := denial("network", rule.id, say.network(app.name), say.network_admin(rule)) if {
	rule := deciding
	condition.listed(rule)
	condition.open(rule)
	not condition.near(rule)
}

refused := {
	"allow": false,
	"reasons": [reason("step_up", rule.id, say.step_up(app.name, rule), say.step_up_admin(rule))],
	"obligations": [rule.step_up],
} if {
	rule := deciding
	condition.listed(rule)
	condition.open(rule)
	condition.near(rule)
	not condition.assured(rule)
}

# unauthenticated is the answer that makes the gateway offer to sign in.
unauthenticated := denial("unauthenticated", "", say.unauthenticated, say.unauthenticated_admin)

denial(code, rule, user, admin) := {
	"allow": false,
	"reasons": [reason(code, rule, user, admin)],
}

reason(code, rule, user, admin) := {"code": code, "rule": rule, "user": user, "admin": admin}
