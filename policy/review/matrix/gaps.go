package matrix

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sallyport/policy"
)

// untried are places under input of which the matrix knows no values.
var untried = []string{
	"subject.cert", "subject.grants", "subject.session.id", "subject.device.id", "subject.device.version", "subject.device.source",
	"subject.device.age_s", "context.tls", "context.request.id", "context.shield.rules", "context.shield.body",
}

// calendar are functions that tell the weeks of a year apart.
var calendar = []string{"time.date", "time.format", "time.add_date", "time.diff"}

// addressPattern is the begin of a regular expression for addresses.
var addressPattern = regexp.MustCompile(`^\^?\(?[0-9]+\\\.`)

// gaps says what packages read that no axis has values for: the report may miss what depends on it.
func (s *survey) gaps() {
	say := func(what string) {
		line := fmt.Sprintf("app %s: its package %s", s.app.Name, what)
		if !slices.Contains(s.incomplete, line) {
			s.incomplete = append(s.incomplete, line)
		}
	}
	for _, p := range s.sides {
		if p.own == nil {
			continue
		}
		for _, place := range untried {
			if asksFor(p.own, place) {
				say("reads input." + place + ", of which no values were tried")
			}
		}
		for _, site := range unknownSites(p.own) {
			say("looks into paths by " + site + ", which is not understood")
		}
		for _, name := range calendar {
			if slices.Contains(p.own.Calls, name) {
				say("calls " + name + "; one week was tried")
			}
		}
		if readsPlace(p.own, "context.client.ip") && slices.ContainsFunc(p.own.Strings, addressPattern.MatchString) {
			say("matches addresses against a pattern; networks were tried")
		}
		if n := len(headersOf(p.own)); n > 1 {
			say(fmt.Sprintf("reads %d headers; they were tried one at a time", n))
		}
	}
}

// asksFor reports whether a package reads a place, part of it, or what holds it and names it: object.get(input.subject, "cert", {}).
func asksFor(c *policy.Constants, place string) bool {
	parent, name := place[:strings.LastIndexByte(place, '.')], place[strings.LastIndexByte(place, '.')+1:]
	if slices.ContainsFunc(c.Reads, func(read string) bool { return read == place || strings.HasPrefix(read, place+".") }) {
		return true
	}
	return readsPlace(c, parent) && slices.Contains(c.Strings, name) && slices.ContainsFunc(c.Reads, func(read string) bool {
		return read == "" || read == parent || strings.HasPrefix(parent, read+".")
	})
}

// headersOf are the names of the headers that a package reads by name.
func headersOf(c *policy.Constants) (names []string) {
	for _, read := range c.Reads {
		if name, ok := strings.CutPrefix(read, "context.request.headers."); ok {
			names = append(names, name)
		}
	}
	return names
}
