package corpus

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sallyport/policy"
	"sallyport/policy/review/replay"
)

// batchSize is how many entries a worker takes at a time.
const batchSize = 256

// Source is the entries as records to replay. They are named by their place in the corpus, from 1.
func (c *Corpus) Source() replay.Source {
	return func(yield func(replay.Batch, error) bool) {
		first := 0
		for part := range slices.Chunk(c.entries, batchSize) {
			start := first
			first += len(part)
			if !yield(c.batch(part, start), nil) {
				return
			}
		}
	}
}

func (c *Corpus) batch(entries []Entry, start int) replay.Batch {
	return func(yield func(replay.Record) bool) {
		for i := range entries {
			if !yield(c.record(&entries[i], start+i)) {
				return
			}
		}
	}
}

func (c *Corpus) record(e *Entry, place int) replay.Record {
	r := replay.Record{
		ID: fmt.Sprintf("entry %d", place+1), Time: e.Last, App: e.App, Policy: c.Header.Policy,
		Allow: e.Allow, Reason: e.Reason, Decision: e.Decision, Weight: e.Requests,
	}
	in, err := whole(e.Input)
	if err != nil {
		r.Unusable = "the entry's input cannot be read by this version"
		return r
	}
	in.Resource.ID = e.App
	r.Input = in.AppendJSON(nil)
	return r
}

// masked are the input fields in which values are replaced.
var masked = []string{
	"subject.id", "subject.email", "subject.claims", "subject.session.id", "subject.device", "subject.cert", "subject.grants",
	"resource.path", "resource.segments", "resource.query", "context.client.ip", "context.request.id", "context.request.headers",
}

// Lacks tells why an app's entries say nothing of policies that read these fields, or "": a field that is not held, or one
// in which a value that only a new policy names may have become a pseudonym. It is for replay.Config.
func (c *Corpus) Lacks(ctx context.Context, policies ...*policy.Engine) func(app string, reads []string) string {
	return func(app string, reads []string) string {
		held := c.Header.Held[app]
		for _, field := range reads {
			if !slices.Contains(held, field) {
				return fmt.Sprintf("app %s: a policy reads input.%s, which the corpus does not hold", app, field)
			}
		}
		for _, e := range policies {
			if why := c.otherZone(e, app, reads); why != "" {
				return why
			}
			if why := c.unknown(ctx, e, app, reads); why != "" {
				return why
			}
		}
		return ""
	}
}

// otherZone says that a policy's times of day are not those of the entries, which hold no instants to tell them from.
func (c *Corpus) otherZone(e *policy.Engine, app string, reads []string) string {
	if slices.Contains(c.Header.Held[app], "context.time_ns") || !slices.ContainsFunc(reads, timeOfDay) {
		return ""
	}
	zone, err := timezone(e)
	if err != nil {
		return err.Error()
	}
	if zone == c.Header.Timezone {
		return ""
	}
	return fmt.Sprintf("app %s: a policy asks for the time of day in %s, and the corpus holds that of %s", app, zone, c.Header.Timezone)
}

func timeOfDay(field string) bool {
	return field == "context.time" || field == "context.weekday" || field == "context.hour"
}

// unknown says which value of a policy may have become a pseudonym.
func (c *Corpus) unknown(ctx context.Context, e *policy.Engine, app string, reads []string) string {
	selectors, err := e.Selectors(app)
	if err != nil {
		return "" // it has no such app, and answers without a look at the request
	}
	known := make(map[string]bool)
	for _, value := range c.Header.Known[app] {
		known[value] = true
	}
	r := &redactor{known: known}
	for _, s := range selectors {
		for _, email := range s.Emails {
			if !known[email] {
				return lacksValue(app, "subject.email", email)
			}
		}
		for _, path := range slices.Concat(s.Exact, s.Below) {
			if !known[path] && r.path(path) != path {
				return lacksValue(app, "resource.path", path)
			}
		}
		for _, network := range s.Networks {
			if !known[network.String()] && network.Bits() > keptBits(network.Addr()) {
				return lacksValue(app, "context.client.ip", network.String())
			}
		}
	}
	return c.unknownConstant(ctx, e, app, reads, known)
}

// unknownConstant looks at an app's own package, of which it is not known what it compares with what.
func (c *Corpus) unknownConstant(ctx context.Context, e *policy.Engine, app string, reads []string, known map[string]bool) string {
	constants, err := e.Constants(ctx, app)
	if err != nil {
		return fmt.Sprintf("app %s: what the policy compares requests with cannot be told: %v", app, err)
	}
	if constants == nil {
		return ""
	}
	for _, field := range reads {
		if !slices.Contains(masked, field) || !constants.All && !reaches(constants.Reads, field) {
			continue
		}
		for _, value := range constants.Strings {
			if !known[value] {
				return lacksValue(app, field, value)
			}
		}
	}
	return ""
}

// reaches reports whether one of the places is a field, lies in it, or around it.
func reaches(places []string, field string) bool {
	return slices.ContainsFunc(places, func(place string) bool {
		return place == field || strings.HasPrefix(place, field+".") || strings.HasPrefix(field, place+".")
	})
}

func lacksValue(app, field, value string) string {
	return fmt.Sprintf("app %s: a policy may compare input.%s with %q, and the corpus holds pseudonyms in its place", app, field, value)
}
