# METADATA
# scope: package
# title: Conditions
# description: |
#   What a rule of an app's access can demand. A rule is an object of data.sallyport.config: the fields it does not
#   have it does not demand. Every function reads only the input that the rule's own fields need, so that an app
#   without hours does not depend on the time.
package sallyport.lib.condition

# listed: the rule names the person, or everybody.
listed(rule) if {
	some group in rule.groups
	group in input.subject.groups
}

listed(rule) if rule.public

listed(rule) if {
	rule.emails
	input.subject.email_verified
	rule.emails[lower(input.subject.email)]
}

listed(rule) if {
	rule.domains
	input.subject.email_verified
	endswith(lower(input.subject.email), rule.domains[_])
}

# met: the rule's demands besides the person all hold.
met(rule) if rule.plain

met(rule) if {
	not rule.plain
	open(rule)
	near(rule)
	assured(rule)
}

# open: it is one of the rule's hours. Hours that begin and end with the hour do not depend on the minute.
open(rule) if not rule.hours

open(rule) if {
	some span in rule.hours.by_hour[input.context.weekday]
	input.context.hour >= span[0]
	input.context.hour < span[1]
}

open(rule) if {
	rule.hours.by_minute
	minute := substring(input.context.time, 11, 5)
	some span in rule.hours.by_minute[input.context.weekday]
	minute >= span[0]
	minute < span[1]
}

# near: the client is in one of the rule's networks.
near(rule) if not rule.networks

near(rule) if {
	some network in rule.networks
	net.cidr_contains(network, input.context.client.ip)
}

# assured: the sign-in is as strong and as fresh as the rule demands.
assured(rule) if not rule.step_up

assured(rule) if {
	rule.step_up
	strong(rule)
	classed(rule)
	fresh(rule)
}

strong(rule) if not rule.step_up.mfa

strong(rule) if {
	rule.step_up.mfa
	input.subject.authn.mfa
}

classed(rule) if not rule.step_up.acr

classed(rule) if {
	some acr in rule.step_up.acr
	acr == input.subject.authn.acr
}

fresh(rule) if not rule.step_up.max_age_s

fresh(rule) if input.subject.authn.age_s < rule.step_up.max_age_s
