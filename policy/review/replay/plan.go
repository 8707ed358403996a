package replay

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"sallyport/policy"
)

// judge is who decides again what one policy had decided: that policy, if it is at hand, the old and the new one.
type judge struct {
	*run
	own *side // nil: not at hand

	mu    sync.Mutex
	plans map[string]*plan // by app
}

// plan says how an app's requests are told apart.
type plan struct {
	once      sync.Once
	fields    *policy.Projection // what any of the policies reads
	recurring *policy.Projection // the same without what differs in every request
	zones     []*time.Location   // of policies that read the time of day, where they may differ
	lacking   string             // why the app's requests cannot be replayed
}

func (j *judge) plan(ctx context.Context, app string) *plan {
	j.mu.Lock()
	p := j.plans[app]
	if p == nil {
		p = new(plan)
		j.plans[app] = p
	}
	j.mu.Unlock()
	p.once.Do(func() { j.prepare(ctx, app, p) })
	return p
}

func (j *judge) prepare(ctx context.Context, app string, p *plan) {
	either := j.from.reads(ctx, app).With(j.to.reads(ctx, app))
	p.fields = either
	if j.own != nil {
		p.fields = either.With(j.own.reads(ctx, app))
	}
	p.recurring = p.fields.Recurring()
	if slices.ContainsFunc(either.Fields(), isTimeOfDay) && !j.oneZone() {
		p.zones = []*time.Location{j.from.zone, j.to.zone}
	}
	if j.config.Lacks != nil {
		p.lacking = j.config.Lacks(app, j.needs(app, either.Fields()))
	}
}

func isTimeOfDay(field string) bool {
	return field == "context.time" || field == "context.weekday" || field == "context.hour"
}

// oneZone reports whether the recorded times of day are those of both policies.
func (j *judge) oneZone() bool {
	zone := j.from.zone.String()
	return j.to.zone.String() == zone && j.own != nil && j.own.zone.String() == zone
}

// needs are the fields that a source must hold. What a configuration says of an app both policies know themselves; and the
// time of day in another zone follows from the instant.
func (j *judge) needs(app string, reads []string) (needed []string) {
	_, old := j.from.apps[app]
	_, new := j.to.apps[app]
	for _, field := range reads {
		configured := field == "resource.labels" || field == "resource.sensitivity" || field == "resource.owner"
		if !configured || !old || !new {
			needed = append(needed, field)
		}
	}
	if j.from.zone.String() != j.to.zone.String() && slices.ContainsFunc(reads, isTimeOfDay) {
		needed = append(needed, "context.time_ns")
	}
	return needed
}

// key appends what requests for the app are told apart by.
func (p *plan) key(b, input []byte) ([]byte, error) {
	b, err := p.fields.AppendRecorded(b, input)
	if err != nil || p.zones == nil {
		return b, err
	}
	return appendHours(b, input, p.zones)
}

// timeNS stands before the time in an input. What comes behind it holds no document of that name.
var timeNS = []byte(`"context":{"time_ns":`)

// appendHours appends the weekday and hour of a request in each zone.
func appendHours(b, input []byte, zones []*time.Location) ([]byte, error) {
	digits := input[bytes.LastIndex(input, timeNS)+len(timeNS):]
	digits = digits[:max(0, bytes.IndexByte(digits, ','))]
	ns, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading policy input: time_ns: %w", err)
	}
	for _, zone := range zones {
		b = time.Unix(0, ns).In(zone).AppendFormat(b, "Mon15")
	}
	return b, nil
}
