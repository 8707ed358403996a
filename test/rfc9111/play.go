package rfc9111

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// soon is how long something may take that a cache does after it has answered.
const soon = 3 * time.Second

// sighting is what the client got in one exchange.
type sighting struct {
	status          int
	header, trailer http.Header
	interim         []int
	body            string
	err             error // the body ended badly
}

// play plays one case.
func play(ctx context.Context, front Front, origin *Origin, c Case) Result {
	r := Result{Case: c}
	p := &performance{id: "t" + strings.ToLower(rand.Text())[:12], began: time.Now(), base: front.Base("wiki"), steps: c.Steps,
		seen: make([][]*http.Request, len(c.Steps))}
	origin.perform(p)
	for i, step := range c.Steps {
		if !wait(ctx, step.After) {
			return r
		}
		p.mu.Lock()
		p.step = i
		p.mu.Unlock()
		got, err := p.ask(ctx, front, step.Ask)
		if err != nil && step.App.Cut && ctx.Err() == nil { // broken off before anything of it was sent on
			got, err = sighting{status: step.App.Status, err: err}, nil
		}
		if err != nil {
			r.miss(i, "no answer: %v", err)
			return r
		}
		r.judge(p, i, got)
	}
	return r
}

func wait(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *performance) ask(ctx context.Context, front Front, ask Ask) (got sighting, err error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(status int, _ textproto.MIMEHeader) error {
		got.interim = append(got.interim, status)
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, ask.Method, p.fill(ask.Target), strings.NewReader(ask.Body))
	if err != nil {
		return got, err
	}
	if ask.Body == "" {
		req.Body = http.NoBody
	}
	for _, line := range ask.Header {
		req.Header.Add(line.Name, p.fill(line.Value))
	}
	res, err := front.Send(ask.Person, ask.App, req)
	if err != nil {
		return got, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	got.status, got.header, got.trailer, got.body, got.err = res.StatusCode, res.Header, res.Trailer, string(body), err
	return got, nil
}

func (r *Result) miss(step int, format string, args ...any) {
	r.Missed = append(r.Missed, fmt.Sprintf("exchange %d: ", step+1)+fmt.Sprintf(format, args...))
}

// judge holds what was seen in an exchange against what should be.
func (r *Result) judge(p *performance, i int, got sighting) {
	step := p.steps[i]
	r.judgeSource(p, i, got)
	for _, f := range step.See.Fields {
		if values := got.header.Values(f.Name); !p.met(f, values) {
			r.miss(i, "got %s %q, want %s", f.Name, values, p.expected(f))
		}
	}
	for _, f := range step.See.Trailer {
		if values := got.trailer.Values(f.Name); !p.met(f, values) {
			r.miss(i, "got trailer %s %q, want %s", f.Name, values, p.expected(f))
		}
	}
	if want := step.See.Interim; want != 0 && !slices.Contains(got.interim, want) {
		r.miss(i, "got interim answers %v, want %d", got.interim, want)
	}
	r.judgeRequest(p, i)
	if !p.ours(i, got) {
		r.Wrong = append(r.Wrong, fmt.Sprintf("exchange %d: status %d with the body %.200q, which the app never sent so", i+1, got.status, got.body))
	}
}

func (p *performance) expected(f Field) string {
	f.Value = p.fill(f.Value)
	return f.String()
}

// met fills in what the script left open.
func (p *performance) met(f Field, values []string) bool {
	f.Value = p.fill(f.Value)
	return f.met(values)
}

// judgeSource tells who answered, by what the app was asked and by the body.
func (r *Result) judgeSource(p *performance, i int, got sighting) {
	see, method := p.steps[i].See, p.steps[i].Ask.Method
	asked := len(p.asked(i)) > 0
	switch see.Who {
	case "any":
		if see.Status != 0 && got.status != see.Status {
			r.miss(i, "got %d, want %d", got.status, see.Status)
		}
		return
	case "stored":
		if asked {
			r.miss(i, "the app was asked, want exchange %d's answer: %s", see.Nth, p.describe(got))
			return
		}
	case "not":
		if got.body == p.body(see.Nth-1) {
			r.miss(i, "got exchange %d's answer", see.Nth)
		}
		return
	case "gateway":
		if asked {
			r.miss(i, "the app was asked")
		}
		if got.status != see.Status {
			r.miss(i, "got %d, want %d", got.status, see.Status)
		}
		return
	case "failed":
		if !asked || got.status < 500 || strings.Contains(got.body, p.id) {
			r.miss(i, "got %d %.100q, app asked: %v, want a failure", got.status, got.body, asked)
		}
		return
	case "stale":
		if !p.askedSoon(i) {
			r.miss(i, "the app was not asked")
		}
	case "app", "validated":
		if !asked {
			r.miss(i, "the app was not asked: %s", p.describe(got))
			return
		}
		if see.Who == "validated" && !conditional(p.asked(i)[0]) {
			r.miss(i, "the app was asked without a condition")
			return
		}
	}
	answer := p.steps[see.Nth-1].App
	status := see.Status
	if status == 0 {
		status = answer.Status
	}
	if got.status != status {
		r.miss(i, "got status %d, want %d", got.status, status)
		return
	}
	want := p.body(see.Nth - 1)
	switch {
	case see.Body != nil:
		want = p.fill(*see.Body)
	case method == http.MethodHead || bodiless(status):
		want = ""
	}
	if broken := answer.Cut && see.Who == "app"; broken != (got.err != nil) || !broken && got.body != want {
		r.miss(i, "got body %.200q (%v), want %q", got.body, got.err, want)
	}
}

func (p *performance) describe(got sighting) string {
	return fmt.Sprintf("got %d, Age %q, Cache-Status %q, %.100q", got.status, got.header.Get("Age"), got.header.Get("Cache-Status"), got.body)
}

// askedSoon waits for what a cache does after it has answered.
func (p *performance) askedSoon(i int) bool {
	for deadline := time.Now().Add(soon); len(p.asked(i)) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func (r *Result) judgeRequest(p *performance, i int) {
	expectations := p.steps[i].Sent
	if len(expectations) == 0 {
		return
	}
	asked := p.asked(i)
	if len(asked) == 0 {
		r.miss(i, "the app was not asked")
		return
	}
	for _, f := range expectations {
		if values := asked[0].Header.Values(f.Name); !p.met(f, values) {
			r.miss(i, "the app got %s %q, want %s", f.Name, values, p.expected(f))
		}
	}
}

// ours reports whether a whole answer's body is one that the app gave in some exchange of the case, or a part of it that
// says it is one. Failures have the gateway's own pages.
func (p *performance) ours(i int, got sighting) bool {
	if got.err != nil || got.status != http.StatusOK && got.status != http.StatusPartialContent || p.steps[i].Ask.Method != http.MethodGet {
		return true
	}
	for n, step := range p.steps[:i+1] {
		body := p.body(n)
		if got.body == body || got.status == http.StatusPartialContent && strings.Contains(body, got.body) {
			return !step.App.Cut
		}
	}
	return got.status == http.StatusPartialContent && p.steps[i].See.Body != nil
}
