package headers

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// claim is something that an app can be told of who is asking, by a name of its own.
type claim uint8

const (
	claimID claim = iota
	claimSubject
	claimEmail
	claimUsername
	claimName
	claimGroups
	claims         // how many are worked out once
	claimAssertion // changes every minute
)

var claimNames = map[string]claim{
	"id": claimID, "subject": claimSubject, "email": claimEmail, "username": claimUsername, "name": claimName, "groups": claimGroups, "assertion": claimAssertion,
}

// telling is one line of an app's identity_as.
type telling struct {
	header string
	claim  claim
}

// tellings are what identity_as means, by the headers' names.
func tellings(as map[string]string) (list []telling) {
	for _, name := range slices.Sorted(maps.Keys(as)) {
		list = append(list, telling{http.CanonicalHeaderKey(name), claimNames[as[name]]})
	}
	return list
}

// CheckIdentityAs reports what is wrong with an app's identity_as: names that apps read in two ways or that mean something
// else already, and claims that there are none of.
func CheckIdentityAs(as map[string]string) error {
	var errs []error
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(as)) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !isOrdinary(canonical):
			errs = append(errs, fmt.Errorf("identity_as: %q must be letters, digits and hyphens: apps cannot tell other names apart", name))
		case strings.HasPrefix(canonical, "X-Sallyport-"):
			errs = append(errs, fmt.Errorf("identity_as: %q is the gateway's own; identity_headers sends it", name))
		case !mayTell(canonical):
			errs = append(errs, fmt.Errorf("identity_as: %q means something else already", name))
		case seen[canonical]:
			errs = append(errs, fmt.Errorf("identity_as: %q is there twice", canonical))
		}
		seen[canonical] = true
		if _, known := claimNames[as[name]]; !known {
			errs = append(errs, fmt.Errorf("identity_as: %q for %q is none of id, subject, email, username, name, groups and assertion", as[name], name))
		}
	}
	return errors.Join(errs...)
}

// mayTell reports whether a name is free for identity: no part of the message, its routing or its content.
func mayTell(name string) bool {
	switch class := fromClient.class(name); {
	case class != passes && class != identity, taken[name]:
		return false
	}
	for _, start := range [...]string{"Accept", "Access-Control-", "Content-", "If-", "Sec-"} {
		if strings.HasPrefix(name, start) {
			return false
		}
	}
	return true
}

// taken are the names of requests that are not about who asks, and Authorization, which has an option of its own.
var taken = map[string]bool{
	"Age": true, "Authorization": true, "Baggage": true, "Cache-Control": true, "Cookie": true, "Date": true, "Destination": true, "Expect": true,
	"Grpc-Timeout": true, "Max-Forwards": true, "Origin": true, "Pragma": true, "Range": true, "Referer": true, "Set-Cookie": true, "Traceparent": true,
	"Tracestate": true, "User-Agent": true, "Vary": true, "X-Request-Id": true,
}

// Tell says in a header that FromClient returned who is asking, in the app's own names. What the client said under them is
// gone, also where there is nothing to say: then there is no such header.
func (a *App) Tell(h http.Header, p *Prepared, assertion string) {
	for _, t := range a.told {
		delete(h, t.header)
		switch {
		case t.claim == claimAssertion && assertion != "":
			h[t.header] = []string{assertion}
		case t.claim != claimAssertion && p.said[t.claim][0] != "":
			h[t.header] = p.said[t.claim]
		}
	}
}

// Hush removes from a header that FromClient returned what the client said under the app's names for identity.
func (a *App) Hush(h http.Header) {
	for _, t := range a.told {
		delete(h, t.header)
	}
}

// Tells reports whether the app has names of its own for who is asking.
func (a *App) Tells() bool { return len(a.told) > 0 }

// TellsAssertion reports whether one of them is for the assertion.
func (a *App) TellsAssertion() bool {
	return slices.ContainsFunc(a.told, func(t telling) bool { return t.claim == claimAssertion })
}

// IsTold reports whether a request header, in canonical spelling, says who is asking because identity_as names it.
func (a *App) IsTold(name string) bool {
	return slices.ContainsFunc(a.told, func(t telling) bool { return t.header == name })
}
