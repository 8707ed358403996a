# METADATA
# scope: package
# title: Sentences
# description: |
#   What people read. The sentence for the user says which kind of condition failed and what would help: it names the
#   app, the groups that may open it and its hours, and never other people's addresses or the networks. The sentence
#   for the administrator names the rule and all it demands.
package sallyport.lib.say

unauthenticated := "Sign in to continue."

unauthenticated_admin := "nobody is signed in and no public rule decides the request"

cross_origin(app) := sprintf("Only pages of %s itself may open this connection.", [app])

cross_origin_admin := "the Origin of the handshake is neither the app's own nor one of its websocket_origins"

client_certificate(app) := sprintf("%s opens only for clients that show a certificate. %s", [app, missing_certificate])

missing_certificate := sprintf("The certificate that yours showed does not count: %s.", [certificate_problem]) if {
	input.subject.cert_problem
} else := "Yours showed none."

certificate_problem := words if {
	words := certificate_problems[input.subject.cert_problem]
} else := "it could not be verified"

# What helps whoever asks and nobody who tries certificates out: which authority is trusted stays untold.
certificate_problems := {
	"expired": "it has expired",
	"not_yet_valid": "it is not valid yet",
	"unknown_authority": "it was not issued for this gateway",
	"not_for_clients": "it was not made for clients",
	"revoked": "it was revoked",
	"revocation_list_expired": "nobody can tell at present whether it was revoked",
	"revocation_list_missing": "nobody can tell whether it was revoked",
	"too_large": "it is too large",
}

client_certificate_admin := sprintf("client_certs of the app is required, and the certificate does not count: %s", [input.subject.cert_problem]) if {
	input.subject.cert_problem
} else := "client_certs of the app is required, and the client showed no certificate"

provider(app, providers) := sprintf("%s is for people who sign in with %s, and you signed in with %s.", [
	app,
	concat(" or ", sort(object.keys(providers))),
	signed_in_with,
])

signed_in_with := input.subject.authn.provider

signed_in_with := "none" if not input.subject.authn.provider

provider_admin(providers) := sprintf("providers of the app are %s", [concat(", ", sort(object.keys(providers)))])

token_scope(app, method) := sprintf("The token is not good for %s requests to %s.", [method, app])

token_scope_admin(token) := sprintf("the token is for methods %s of apps %s", [
	concat(", ", object.get(token, "methods", [])),
	concat(", ", object.get(token, "apps", [])),
])

cross_site(app) := sprintf("A page of another site sent this request to %s. Open %s yourself and do it there.", [app, app])

cross_site_admin := "a page of another origin sent a request that may change something; cross_site admits such requests to the app"

shield(app) := sprintf("This request looked like an attack on %s and was stopped. If it was ordinary work, show the reference to the app's owner.", [app])

shield_admin(found, threshold) := sprintf("inspection gave the request a score of %v; the app refuses from %v", [
	object.get(found, "score", "nothing"),
	threshold,
])

shield_timeout(app) := sprintf("This request to %s could not be inspected in time and was stopped. Try again; if that does not help, show the reference to the app's owner.", [app])

shield_timeout_admin := "inspection took longer than shield.timeout"

no_rule(app) := sprintf("Nobody may do this in %s.", [app])

no_rule_admin(app) := sprintf("no access rule of %s matches the method and the path", [app])

not_listed(app, rule) := sprintf("You are not in a group that may open %s: %s.", [app, some_of(rule.groups)]) if {
	rule.groups
}

not_listed(app, rule) := sprintf("You are not among the people who may open %s.", [app]) if {
	not rule.groups
	named(rule)
}

not_listed(app, rule) := sprintf("This part of %s is closed.", [app]) if {
	not rule.groups
	not named(rule)
}

named(rule) if rule.emails

named(rule) if rule.domains

not_listed_admin(rule) := sprintf("%s admits %s", [rule.id, concat("; ", admits(rule))]) if count(admits(rule)) > 0

not_listed_admin(rule) := sprintf("%s admits nobody", [rule.id]) if count(admits(rule)) == 0

admits(rule) := array.concat(
	[s | s := sprintf("groups %s", [concat(", ", rule.groups)])],
	array.concat(
		[s | s := sprintf("%d e-mail addresses", [count(rule.emails)])],
		[s | s := sprintf("domains %s", [concat(", ", rule.domains)])],
	),
)

hours(app, rule) := sprintf("%s is open %s (%s).", [app, rule.hours.text, data.sallyport.config.timezone])

hours_admin(rule) := sprintf("%s admits the person only %s (%s)", [rule.id, rule.hours.text, data.sallyport.config.timezone])

network(app) := sprintf("%s cannot be opened from the network you are in.", [app])

network_admin(rule) := sprintf("%s admits the person only from %s", [rule.id, concat(", ", rule.networks)])

step_up(app, rule) := sprintf("To open %s you need to sign in again: %s.", [app, concat(", ", rule.demands)])

step_up_admin(rule) := sprintf("%s demands %s", [rule.id, concat(", ", rule.demands)])

# some_of names at most five groups: a page is no directory.
some_of(groups) := concat(", ", groups) if count(groups) <= 5

some_of(groups) := sprintf("%s and %d more", [concat(", ", array.slice(groups, 0, 5)), count(groups) - 5]) if {
	count(groups) > 5
}
