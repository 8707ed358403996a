package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/limit"
)

// accounts are what stands behind the rates of the configuration. They outlive every snapshot, so that a reload forgives
// nobody. Strangers have tables of their own: however many there are, they crowd out nobody who is known.
type accounts struct {
	strangers *limit.Table[strangerAccount]
	visitors  *limit.Table[personAccount] // strangers, as the policy limits them
	people    *limit.Table[personAccount]
	total     limit.Bucket // of strangers' requests
	records   limit.Bucket // of strangers' refusals
	returning limit.Bucket // of sign-ins that come back from a provider
	under     *limit.Gate[personAccount]
}

func newAccounts(now time.Time) *accounts {
	return &accounts{strangers: limit.NewTable[strangerAccount](now), visitors: limit.NewTable[personAccount](now), people: limit.NewTable[personAccount](now), under: limit.NewGate[personAccount]()}
}

// strangerAccount is what an address is held to.
type strangerAccount struct {
	what    strangersDo
	network [16]byte // an IPv4 address, or the /64 of an IPv6 address, which is what a customer of a provider has
}

type strangersDo byte

const (
	strangersAsk       strangersDo = iota
	strangersPreflight             // an account of its own: browsers send them without credentials for people who are signed in, too
	strangersSignIn
)

// networkOf is the part of an address that one client has to itself.
func networkOf(addr netip.Addr) [16]byte {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.As16()
	}
	network := addr.As16()
	clear(network[8:])
	return network
}

// personAccount is what somebody is held to in an app; each kind of limit sets what it is about.
type personAccount struct {
	limit       limited
	person, app string
	name        string     // of the group, or of the policy's class
	rate        limit.Rate // of the policy's, which may state several for one class
}

// limited names a limit, in metrics and in the RateLimit fields of answers.
type limited string

const (
	limitStrangers        limited = "strangers"
	limitStrangersTotal   limited = "strangers_total"
	limitSignInAddress    limited = "sign_in_address"
	limitSignInAccount    limited = "sign_in_account"
	limitSignInTotal      limited = "sign_in_total"
	limitPerson           limited = "person"
	limitGroup            limited = "group"
	limitApp              limited = "app"
	limitPolicy           limited = "policy"
	limitPersonConcurrent limited = "concurrency_person"
	limitAppConcurrent    limited = "concurrency_app"
)

// overLimit is what a 429 says about the limit.
type overLimit struct {
	limit limited
	rate  limit.Rate // of a limit on how often
	wait  time.Duration
	most  int // of a limit on how many at a time
}

// limit holds who is known to the rates of person and groups, and to so many requests at a time. Strangers were held to
// theirs when nobody was found behind them.
func (x *exchange) limit() error {
	if x.session == nil {
		return nil
	}
	of, who := &x.app.Limits, x.session.Identity
	if err := x.takePerson(personAccount{limit: limitPerson, person: who.ID(), app: string(x.app.Name)}, of.Person); err != nil {
		return err
	}
	if len(of.Groups) > 0 {
		for _, group := range who.Groups {
			if err := x.takePerson(personAccount{limit: limitGroup, app: string(x.app.Name), name: group}, of.Groups[group]); err != nil {
				return err
			}
		}
	}
	return x.enter(personAccount{limit: limitPersonConcurrent, person: who.ID(), app: string(x.app.Name)}, of.Concurrency.Person)
}

// oblige holds an allowed exchange to what the policy demands for it, and to what the app bears from all people
// together: what is denied takes no room from others.
func (x *exchange) oblige() error {
	if !x.verdict.Allow {
		return nil
	}
	if err := x.obligeSession(); err != nil {
		return err
	}
	for class, o := range x.verdict.RateLimits() {
		rate := limit.Every(o.Requests, time.Duration(o.PerS)*time.Second)
		account := personAccount{limit: limitPolicy, person: x.asker(), app: string(x.app.Name), name: class, rate: rate}
		if err := x.takePerson(account, rate); err != nil {
			return err
		}
	}
	of := &x.app.Limits
	if err := x.takePerson(personAccount{limit: limitApp, app: string(x.app.Name)}, of.App); err != nil {
		return err
	}
	return x.enter(personAccount{limit: limitAppConcurrent, app: string(x.app.Name)}, of.Concurrency.App)
}

// asker is who is held to the policy's rates: a person, or a stranger's address.
func (x *exchange) asker() string {
	if x.session != nil {
		return x.session.Identity.ID()
	}
	network := networkOf(x.conn.address.Addr())
	return string(network[:])
}

// charge is what a request owes an account for, and could give back.
type charge struct {
	table   *limit.Table[personAccount]
	account personAccount
	rate    limit.Rate
	until   time.Time
}

func (x *exchange) takePerson(account personAccount, rate limit.Rate) error {
	if rate.Unlimited() {
		return nil
	}
	table := x.server.accounts.people
	if x.session == nil && account.person != "" {
		table = x.server.accounts.visitors
	}
	until, wait := table.Charge(account, rate, x.start)
	if wait == 0 {
		x.charges = append(x.charges, charge{table, account, rate, until})
		return nil
	}
	x.giveBack()
	return x.tooOften(overLimit{limit: account.limit, rate: rate, wait: wait}, account.name)
}

// giveBack returns what the exchange was charged before a limit refused it: that is not to cost others of a group, or the
// same person in what other limits allow.
func (x *exchange) giveBack() {
	now := x.server.now()
	for _, c := range x.charges {
		c.table.GiveBack(c.account, c.rate, c.until, now)
	}
	x.charges = nil
}

// enter counts the exchange as under way until it is finished.
func (x *exchange) enter(account personAccount, most int) error {
	if most == 0 {
		return nil
	}
	if x.server.accounts.under.Enter(account, most) {
		x.entered = append(x.entered, account)
		return nil
	}
	x.giveBack()
	over := &overLimit{limit: account.limit, wait: time.Second, most: most}
	x.server.metrics.limited.WithLabelValues(string(over.limit)).Inc()
	return &Refusal{Status: http.StatusTooManyRequests, Effect: audit.Reject, Reason: "too_many_at_once", over: over,
		Detail: x.whyLimited(fmt.Sprintf("%s: %d at a time", over.limit, most)),
		Public: "Too many requests are under way at once.", Advice: []string{"Wait until some of them are done."}}
}

// leave ends what the exchange counted for as under way.
func (x *exchange) leave() {
	for _, account := range x.entered {
		x.server.accounts.under.Leave(account)
	}
	x.entered = nil
}

// stranger holds somebody without a session to the rate of their address, and to that of all strangers together.
func (x *exchange) stranger() error { return x.takeStranger(strangersAsk) }

func (x *exchange) takeStranger(what strangersDo) error {
	now, rates := x.start, &x.snap.Limits
	address := strangerAccount{what, networkOf(x.conn.address.Addr())}
	until, wait := x.server.accounts.strangers.Charge(address, rates.Strangers, now)
	if wait > 0 {
		return x.tooOften(overLimit{limit: limitStrangers, rate: rates.Strangers, wait: wait}, "")
	}
	if wait := x.server.accounts.total.Take(rates.StrangersTotal, now); wait > 0 {
		x.server.accounts.strangers.GiveBack(address, rates.Strangers, until, x.server.now())
		return x.tooOften(overLimit{limit: limitStrangersTotal, rate: rates.StrangersTotal, wait: wait}, "")
	}
	return nil
}

// tooOften is the answer to who asks too often. Strangers get it before anything was looked up, so it says nothing of
// what there is.
func (x *exchange) tooOften(over overLimit, name string) *Refusal {
	x.server.metrics.limited.WithLabelValues(string(over.limit)).Inc()
	what := string(over.limit)
	if name != "" {
		what += " " + canon.Escape(name) // groups are a provider's words
	}
	return &Refusal{Status: http.StatusTooManyRequests, Effect: audit.Reject, Reason: "rate_limited", over: &over,
		Detail: x.whyLimited(what + ": " + over.rate.String()),
		Public: "There were too many requests in a short time.", Advice: []string{"Wait a moment, then try again."}}
}

// whyLimited is for the record: which limit it was, and that the policy had said yes where it was asked.
func (x *exchange) whyLimited(which string) string {
	if x.verdict != nil {
		return "the policy allows it; over " + which
	}
	return "over " + which
}

// setHeader tells the client about the limit: RateLimit-Policy and RateLimit as draft-ietf-httpapi-ratelimit-headers-10
// has them, with the quota of a burst in the time in which it is there again.
func (o *overLimit) setHeader(header http.Header) {
	if o.most > 0 {
		header.Set("RateLimit-Policy", fmt.Sprintf(`"%s";q=%d;qu="concurrent-requests"`, o.limit, o.most))
		header.Set("RateLimit", fmt.Sprintf(`"%s";r=0`, o.limit))
		return
	}
	header.Set("RateLimit-Policy", fmt.Sprintf(`"%s";q=%d;w=%d`, o.limit, o.rate.Burst(), wholeSeconds(o.rate.Refill())))
	header.Set("RateLimit", fmt.Sprintf(`"%s";r=0;t=%d`, o.limit, wholeSeconds(o.wait)))
}

// wholeSeconds rounds up, to one second at least.
func wholeSeconds(d time.Duration) int64 { return max(int64((d+time.Second-1)/time.Second), 1) }

// register adds to the metrics how full the tables are.
func (l *accounts) register(registry *prometheus.Registry) {
	tables := map[string]func() uint64{"strangers": l.strangers.Crowded, "visitors": l.visitors.Crowded, "people": l.people.Crowded}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sallyport_limit_crowded_total", ConstLabels: prometheus.Labels{"table": name},
			Help: "Newcomers to the rate limits for whom there was no room of their own, so that they took over somebody's debt."},
			func() float64 { return float64(tables[name]()) }))
	}
}
