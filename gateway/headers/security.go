package headers

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Security is what an app's answers promise to browsers, beyond Strict-Transport-Security. Of what the app says and what is
// set here the stricter counts, field by field; "any" leaves a field to the app.
type Security struct {
	// NoSniff sends X-Content-Type-Options: nosniff: browsers believe the type that the app states. Default true.
	NoSniff *bool `yaml:"nosniff" default:"true"`
	// Frame says whose pages may show the app in a frame: "self", "none", "any", or origins such as
	// https://intranet.corp.example, of which "self" may be one. Default "self".
	Frame []string `yaml:"frame" config:"single" default:"self"`
	// Referrer is the Referrer-Policy. Default "strict-origin-when-cross-origin": other sites are told the app's host, never
	// a path or a query.
	Referrer string `yaml:"referrer" default:"strict-origin-when-cross-origin" enum:"any,strict-origin-when-cross-origin,strict-origin,same-origin,no-referrer"`
	// Opener is the Cross-Origin-Opener-Policy, which keeps pages that open the app from holding on to its window. Default
	// "same-origin-allow-popups", which leaves the app its own pop-ups.
	Opener string `yaml:"opener" default:"same-origin-allow-popups" enum:"any,same-origin-allow-popups,same-origin"`
	// Resource is the Cross-Origin-Resource-Policy: from whose pages images, scripts and the like may be loaded. Default
	// "same-site", which leaves them to the apps of the same domain.
	Resource string `yaml:"resource" default:"same-site" enum:"any,same-site,same-origin"`
	// Deny are the browser features that the app's pages, and what they frame, are denied (Permissions-Policy). An empty list
	// denies none. Default: the ones that reach for hardware or money, which an app that has no use for them does not miss;
	// camera, microphone and place stay with the person, whom the browser asks.
	Deny []string `yaml:"deny" config:"single" default:"bluetooth,hid,midi,payment,serial,usb"`
}

// denied is Deny's default.
var denied = []string{"bluetooth", "hid", "midi", "payment", "serial", "usb"}

// Check reports values that no browser would understand.
func (s *Security) Check() error {
	var errs []error
	for _, who := range s.Frame {
		switch {
		case who == "self", who == "any" && len(s.Frame) == 1, who == "none" && len(s.Frame) == 1:
		case !isOrigin(who):
			errs = append(errs, fmt.Errorf("frame: %q must be self, none or any alone, or an origin such as https://intranet.corp.example", who))
		}
	}
	for _, feature := range s.Deny {
		if feature == "" || strings.Trim(feature, "abcdefghijklmnopqrstuvwxyz-0123456789") != "" {
			errs = append(errs, fmt.Errorf("deny: %q is no name of a browser feature, such as camera", feature))
		}
	}
	return errors.Join(errs...)
}

// promises are Security, worked out once.
type promises struct {
	noSniff  bool
	framing  framing
	ordered  []atLeast
	features []string // one Permissions-Policy; nil: none
}

func (s *Security) promises() promises {
	p := promises{noSniff: s.NoSniff == nil || *s.NoSniff, framing: newFraming(s.Frame)}
	for _, one := range []struct {
		name, value string
		values      []string // the weakest first
	}{
		{"Referrer-Policy", cmp.Or(s.Referrer, "strict-origin-when-cross-origin"), []string{"strict-origin-when-cross-origin", "strict-origin", "same-origin", "no-referrer"}},
		{"Cross-Origin-Opener-Policy", cmp.Or(s.Opener, "same-origin-allow-popups"), []string{"same-origin-allow-popups", "same-origin", "noopener-allow-popups", "same-origin-plus-coep"}},
		{"Cross-Origin-Resource-Policy", cmp.Or(s.Resource, "same-site"), []string{"same-site", "same-origin"}},
	} {
		if one.value != "any" {
			p.ordered = append(p.ordered, atLeast{one.name, []string{one.value}, one.values[slices.Index(one.values, one.value):]})
		}
	}
	features := s.Deny
	if features == nil {
		features = denied
	}
	if len(features) > 0 {
		p.features = []string{strings.Join(features, "=(), ") + "=()"}
	}
	return p
}

// Promise adds the security headers to an answer of the app that is about to leave. A 304 gets none: what it says replaces
// what browsers kept of the whole answer, where the app may have been stricter (RFC 9111 §3.2).
func (a *App) Promise(h http.Header, status int) {
	if status == http.StatusNotModified {
		return
	}
	p := &a.promises
	if p.noSniff {
		h["X-Content-Type-Options"] = noSniff
	}
	p.framing.set(h)
	for i := range p.ordered {
		p.ordered[i].set(h)
	}
	if p.features != nil {
		// RFC 9651 §3.2: of a member that is there twice, the last one counts.
		h["Permissions-Policy"] = joined(h["Permissions-Policy"], p.features)
	}
}

// Values of headers are shared between answers; nothing writes to them in place.
var (
	noSniff    = []string{"nosniff"}
	deny       = []string{"DENY"}
	sameOrigin = []string{"SAMEORIGIN"}
	framedBy   = map[string][]string{"none": {"frame-ancestors 'none'"}, "self": {"frame-ancestors 'self'"}}
)

// joined is what the app says, and behind it what we say, in no slice that another answer has.
func joined(theirs, ours []string) []string {
	if theirs == nil {
		return ours
	}
	return append(slices.Clip(theirs), ours...)
}

// atLeast is a header whose values have an order.
type atLeast struct {
	name   string
	value  []string
	enough []string // what the app may say in its place, the value itself included
}

func (l *atLeast) set(h http.Header) {
	theirs := h[l.name]
	if len(theirs) == 0 {
		h[l.name] = l.value
		return
	}
	// A Referrer-Policy may be a list, of which the last known one counts; parameters follow a semicolon.
	last := theirs[len(theirs)-1]
	last = last[strings.LastIndexByte(last, ',')+1:]
	last, _, _ = strings.Cut(last, ";")
	if !slices.Contains(l.enough, strings.ToLower(strings.TrimSpace(last))) {
		h[l.name] = l.value
	}
}

// framing says whose pages may frame the app, in a Content-Security-Policy of its own, which browsers apply besides the
// app's (https://www.w3.org/TR/CSP3/#multiple-policies), and in X-Frame-Options for those that do not know it.
type framing struct {
	policy  []string // nil: left to the app
	options []string // nil: cannot be said
}

func newFraming(who []string) framing {
	if len(who) == 0 {
		who = []string{"self"}
	}
	switch {
	case who[0] == "any":
		return framing{}
	case who[0] == "none":
		return framing{framedBy["none"], deny}
	case len(who) == 1 && who[0] == "self":
		return framing{framedBy["self"], sameOrigin}
	}
	sources := make([]string, len(who))
	for i, one := range who {
		if sources[i] = one; one == "self" {
			sources[i] = "'self'"
		}
	}
	return framing{[]string{"frame-ancestors " + strings.Join(sources, " ")}, nil}
}

func (f framing) set(h http.Header) {
	if f.policy == nil {
		return
	}
	policies, theirs := h["Content-Security-Policy"], h["X-Frame-Options"]
	if theirs != nil && !says(policies, "frame-ancestors") {
		f = f.with(theirs)
	}
	h["Content-Security-Policy"] = joined(policies, f.policy)
	delete(h, "X-Frame-Options")
	if f.options != nil {
		h["X-Frame-Options"] = f.options
	}
}

// with is the stricter of the two. Browsers that read frame-ancestors do not read X-Frame-Options any more
// (https://www.w3.org/TR/CSP3/#frame-ancestors-and-frame-options): what the app says there has to be said again here.
func (f framing) with(theirs []string) framing {
	switch {
	case says(theirs, "deny"):
		return framing{framedBy["none"], deny}
	case says(theirs, "sameorigin") && f.options == nil:
		return framing{framedBy["self"], sameOrigin}
	}
	return f
}

// says reports whether a lower-case word is in one of the values, in any case.
func says(values []string, word string) bool {
	for _, value := range values {
		for len(value) >= len(word) {
			if strings.EqualFold(value[:len(word)], word) {
				return true
			}
			value = value[1:]
		}
	}
	return false
}
