package policy

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// rounds is how often a repeating test repeats: SALLYPORT_ROUNDS, else n.
func rounds(n int) int {
	if r, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && r > 0 {
		return r
	}
	return n
}

// source of randomness, its seed printed so that a failure can be repeated with SALLYPORT_SEED.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func some(r *rand.Rand, from ...string) []string {
	var list []string
	for _, s := range from {
		if r.IntN(3) == 0 {
			list = append(list, s)
		}
	}
	return list
}

// randomInput is an input of few different values per field, so that rules match, fail and repeat.
func randomInput(r *rand.Rand, apps ...string) *Input {
	in := &Input{Subject: randomSubject(r)}
	method, upgrade := pick(r, "GET", "HEAD", "POST", "PUT", "DELETE"), pick(r, "", "", "websocket")
	in.Action = Action{Name: ActionName(method, upgrade), Method: method, Protocol: pick(r, "HTTP/1.1", "HTTP/2.0"), Upgrade: upgrade}
	in.Resource = Resource{
		Type: TypeApp, ID: pick(r, apps...), Labels: map[string]string{"team": pick(r, "a", "b")},
		Sensitivity: pick(r, "", "high"), Owner: pick(r, "", "it"), Host: pick(r, "a.example", "b.example"),
		Path:     pick(r, "/", "/admin", "/admin/x", "/administrator", "/public/", "/public/x", "/robots.txt", "/a/b"),
		Segments: pick(r, nil, []string{"a", "b"}), Query: pick(r, "", "q=1", "debug=1"),
	}
	in.Context = randomContext(r)
	return in
}

func randomSubject(r *rand.Rand) Subject {
	if r.IntN(4) == 0 {
		return Subject{Type: TypeAnonymous}
	}
	s := Subject{
		Type: pick(r, TypeUser, TypeUser, TypeService), ID: pick(r, "corp|ada", "corp|bob"),
		Email:         pick(r, "", "ada@corp.example", "Eve@Partner.example", "x@sub.corp.example"),
		EmailVerified: r.IntN(2) == 0,
		Groups:        some(r, "admins", "group-01", "group-02", "group-03", "group-04", "group-07", "staff"), GroupsIncomplete: r.IntN(8) == 0,
		Claims:      pick(r, nil, map[string]any{"department": "research", "level": json.Number("3")}, map[string]any{"roles": []any{"x", nil, true}}),
		Authn:       &Authn{Provider: pick(r, "corp", "other"), ACR: pick(r, "", "gold", "silver"), AMR: some(r, "pwd", "otp"), MFA: r.IntN(2) == 0},
		Session:     pick(r, nil, &Session{ID: pick(r, "s-1", "s-2"), AgeS: AgeOf(time.Duration(r.IntN(3)) * time.Minute)}),
		Token:       pick(r, nil, nil, &Token{ID: "t-1", Kind: TokenPersonal, Name: "build", Apps: pick(r, []string{AnyScope}, some(r, "app-01", "wiki")), Methods: pick(r, []string{AnyScope}, some(r, "GET", "POST")), Expires: "2030-01-01T00:00:00Z"}),
		Device:      pick(r, nil, &Device{}, &Device{ID: "d", Compliant: new(r.IntN(2) == 0)}),
		Cert:        pick(r, nil, &Cert{Fingerprint: "f", NotAfter: "2030-01-01T00:00:00Z"}),
		CertProblem: pick(r, "", "", "expired", "revoked"),
		Grants:      pick(r, nil, []Grant{{ID: "g", App: "app-01", Name: "oncall"}}),
	}
	if r.IntN(3) > 0 {
		s.Authn.Time = pick(r, "2026-11-23T09:00:00Z", "2026-11-23T08:00:00Z")
		s.Authn.AgeS = AgeOf(pick(r, 0, 30*time.Minute, 59*time.Minute, time.Hour, 5*time.Hour))
	}
	if r.IntN(9) == 0 {
		s.Authn = nil
	}
	return s
}

func randomContext(r *rand.Rand) Context {
	c := Context{
		Client: Client{IP: pick(r, "", "192.0.2.7", "198.51.100.1", "2001:db8::1"), Zone: pick(r, "", "office"), Country: pick(r, "", "DE")},
		TLS:    pick(r, nil, &TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: "a.example", ALPN: "h2"}),
		Request: Request{
			ID: strconv.FormatUint(r.Uint64(), 36), ContentType: pick(r, "", "application/json"),
			ContentLength: pick(r, nil, new(int64(0)), new(int64(12))), UserAgent: pick(r, "", "test/1.0"),
			Origin: pick(r, "", "https://a.example"), FetchSite: pick(r, "", "none", "cross-site"), CrossOrigin: r.IntN(2) == 0,
			CrossSiteUnsafe: pick(r, nil, new(false), new(true)),
			Headers:         pick(r, nil, map[string]string{"accept": "*/*", "x-a": "1"}),
		},
		Shield: pick(r, nil, &Shield{Score: 5, Rules: []int64{942100}, Body: "whole"}),
	}
	c.SetTime(monday.Add(time.Duration(r.IntN(14*24))*time.Hour+time.Duration(r.IntN(60))*time.Minute), time.UTC)
	return c
}

// wildInput is an input whose strings are arbitrary bytes.
func wildInput(r *rand.Rand) *Input {
	in := randomInput(r, "wiki")
	fill := func(s *string) { *s = wild(r) }
	for _, s := range []*string{
		&in.Subject.ID, &in.Subject.Email, &in.Action.Method, &in.Resource.ID, &in.Resource.Path, &in.Resource.Query,
		&in.Resource.Host, &in.Context.Client.Country, &in.Context.Request.UserAgent, &in.Context.Request.Origin,
	} {
		fill(s)
	}
	in.Subject.Groups = []string{wild(r), wild(r)}
	in.Subject.Claims = map[string]any{wild(r): wild(r), wild(r): []any{wild(r), r.Float64(), r.NormFloat64() * 1e30, json.Number("1e3")}}
	in.Resource.Labels = map[string]string{wild(r): wild(r), wild(r): wild(r), "\xff": "1", "\xfe": "2"}
	in.Context.Request.Headers = map[string]string{wild(r): wild(r)}
	return in
}

func wild(r *rand.Rand) string {
	b := make([]byte, r.IntN(12))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(slices.Concat(b, []byte(pick(r, "", "é", "\u2028", "\u202e", "\ufffd", `"\`, "<&>", "\x00\x7f", "🚪"))))
}
