package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/replay"
)

// A working week begins on this Monday.
var monday = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// company is apps with four rules each: every kind of condition occurs.
func company(apps int) []policy.App {
	list := make([]policy.App, apps)
	for i := range list {
		list[i] = policy.App{
			Name: appName(i), Owner: "it", Sensitivity: "low", Labels: map[string]string{"team": fmt.Sprint("t", i%5)},
			Access: policy.Access{
				{Paths: []string{"/admin/"}, Groups: []string{"group-01", "admins"}, MFA: true},
				{Paths: []string{"/public/", "/robots.txt"}, Methods: []string{"GET"}, Public: true},
				{Methods: []string{"POST", "PUT"}, Groups: []string{"group-07"}, Domains: []string{"corp.example"}},
				{Groups: []string{groupName(i)}},
			},
		}
		switch last := &list[i].Access[3]; i % 5 {
		case 1:
			last.Hours = &policy.Hours{Days: []string{"mon-fri"}, From: "08:00", To: "18:00"}
		case 2:
			last.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		case 3:
			last.MaxAge = time.Hour
		case 4:
			last.ACR = []string{"gold"}
		}
	}
	return list
}

func appName(i int) string   { return fmt.Sprintf("app-%02d", i) }
func groupName(i int) string { return fmt.Sprintf("group-%02d", i) }

// revised is the company's policy with some of what reviewers meet: a group more, a step-up less, an app that is gone.
func revised(apps []policy.App) []policy.App {
	list := append([]policy.App(nil), apps[:len(apps)-1]...)
	for i := range list {
		list[i].Access = append(policy.Access(nil), list[i].Access...)
	}
	list[3].Access[3].Groups = append([]string{"contractors"}, list[3].Access[3].Groups...)
	list[5].Access[0].MFA = false
	list[7].Access[3].Groups = []string{"admins"}
	return list
}

func engine(ctx context.Context, cfg policy.Config, apps []policy.App) (*policy.Engine, error) {
	b, err := policy.Build(cfg, apps)
	if err != nil {
		return nil, err
	}
	return policy.Compile(ctx, b)
}

// employee is in 40 groups.
func employee() policy.Subject {
	s := policy.Subject{
		Type: policy.TypeUser, ID: "corp|ada", Email: "ada@corp.example", EmailVerified: true,
		Claims:  map[string]any{"department": "research"},
		Authn:   &policy.Authn{Provider: "corp", AMR: []string{"pwd"}, Time: "2026-11-23T09:00:00Z", AgeS: policy.AgeOf(30 * time.Minute)},
		Session: &policy.Session{ID: "s-1", AgeS: policy.AgeOf(30 * time.Minute), IdleS: policy.AgeOf(0)},
	}
	for i := range 40 {
		s.Groups = append(s.Groups, groupName(i))
	}
	return s
}

// request is of s for an app.
func request(s policy.Subject, app, method, path string, at time.Time) *policy.Input {
	in := &policy.Input{
		Subject: s,
		Action:  policy.Action{Name: policy.ActionName(method, ""), Method: method, Protocol: "HTTP/2.0"},
		Resource: policy.Resource{
			Type: policy.TypeApp, ID: app, Labels: map[string]string{"team": "t1"}, Owner: "it", Sensitivity: "low",
			Host: app + ".corp.example", Path: path,
		},
		Context: policy.Context{
			Client: policy.Client{IP: "192.0.2.7"},
			TLS:    &policy.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: app + ".corp.example", ALPN: "h2"},
			Request: policy.Request{
				ID: fmt.Sprintf("%x", at.UnixNano()), FetchSite: "none", Headers: map[string]string{"accept-language": "de"},
				UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
			},
		},
	}
	in.Context.SetTime(at, time.UTC)
	return in
}

// staff are people in some groups each.
func staff(r *rand.Rand, people int) []directory.Person {
	list := make([]directory.Person, people)
	for i := range list {
		p := &list[i]
		*p = directory.Person{
			ID: fmt.Sprintf("corp|%03d", i), Name: fmt.Sprintf("person %03d", i), Type: policy.TypeUser,
			Email: fmt.Sprintf("p%03d@corp.example", i), MFA: i%3 == 0,
		}
		for g := range 40 {
			if (g*7+i)%13 < 3 {
				p.Groups = append(p.Groups, groupName(g))
			}
		}
		if r.IntN(20) == 0 {
			p.Groups = append([]string{"contractors"}, p.Groups...)
		}
	}
	return list
}

// traffic is a day's requests of people, each for a few of the apps and a few paths.
func traffic(r *rand.Rand, people []directory.Person, apps, requests int) []*policy.Input {
	paths := []string{"/", "/", "/", "/inbox", "/assets/app.js", "/api/items", "/public/logo.svg", "/admin/users"}
	methods := []string{"GET", "GET", "GET", "GET", "POST"}
	list := make([]*policy.Input, requests)
	for i := range list {
		at := monday.Add(time.Duration(i) * 10 * time.Hour / time.Duration(requests))
		who := r.IntN(len(people))
		list[i] = request(people[who].Subject(at), appName((who+r.IntN(5)*r.IntN(3))%apps), methods[r.IntN(len(methods))], paths[r.IntN(len(paths))], at)
	}
	return list
}

// recorded is what the log has of requests that e decided.
func recorded(ctx context.Context, e *policy.Engine, inputs []*policy.Input) []replay.Record {
	list := make([]replay.Record, len(inputs))
	for i, in := range inputs {
		v := e.Decide(ctx, in)
		list[i] = replay.Record{
			ID: recordID(i), Time: time.Unix(0, in.Context.TimeNS), App: in.Resource.ID, Policy: e.Digest(),
			Input: in.AppendJSON(nil), Allow: v.Allow, Reason: v.Reason, Decision: v.JSON,
		}
	}
	return list
}

func recordID(i int) string { return fmt.Sprintf("r-%06d", i) }

// again is a source of n records, the same ones again and again, in batches of a segment's size.
func again(records []replay.Record, n int) replay.Source {
	const size = 4096
	return func(yield func(replay.Batch, error) bool) {
		for first := 0; first < n; first += size {
			batch := func(yield func(replay.Record) bool) {
				for i := first; i < min(first+size, n); i++ {
					if !yield(records[i%len(records)]) {
						return
					}
				}
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}
