package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Decision is the policy's answer, data.sallyport.authz.decision.
type Decision struct {
	Allow       bool              `json:"allow"`
	Reasons     []Reason          `json:"reasons,omitempty"`
	Obligations []Obligation      `json:"obligations,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"` // the policy's own notes for the record
}

// Reason is one sentence of why.
type Reason struct {
	Code  string `json:"code"`           // a word for programs: allow, not_listed, step_up, unauthenticated, …
	Rule  string `json:"rule,omitzero"`  // the access rule's id
	User  string `json:"user,omitzero"`  // for the person who asked
	Admin string `json:"admin,omitzero"` // for whoever runs the app
}

// Types of Obligation.
const (
	StepUp      = "step_up"     // sign in again: MFA, ACR, MaxAgeS
	Headers     = "headers"     // set these request headers: Set
	SessionTerm = "session"     // shorten the session: to MaxAgeS since the sign-in, IdleS without a request
	RateLimit   = "rate_limit"  // at most Requests in PerS seconds by one person, or one address of strangers, counted by Class
	ReadOnly    = "readonly"    // only safe methods for the rest of the exchange
	Reauthorize = "reauthorize" // decide again every EveryS, 1 to 86,400
	Redact      = "redact"      // replace Fields in the answer
)

// Obligation is something that must be done for the decision to hold. Which fields count depends on Type; others are
// refused.
type Obligation struct {
	Type     string            `json:"type"`
	MFA      bool              `json:"mfa,omitzero"`
	ACR      []string          `json:"acr,omitempty"`
	MaxAgeS  int64             `json:"max_age_s,omitzero"`
	IdleS    int64             `json:"idle_s,omitzero"`
	Requests int64             `json:"requests,omitzero"`
	PerS     int64             `json:"per_s,omitzero"`
	Class    string            `json:"class,omitzero"`
	EveryS   int64             `json:"every_s,omitzero"`
	Set      map[string]string `json:"set,omitempty"`
	Fields   []string          `json:"fields,omitempty"`
}

// obligationFields are the fields of each type of obligation.
var obligationFields = map[string][]string{
	StepUp:      {"mfa", "acr", "max_age_s"},
	Headers:     {"set"},
	SessionTerm: {"max_age_s", "idle_s"},
	RateLimit:   {"requests", "per_s", "class"},
	ReadOnly:    {},
	Reauthorize: {"every_s"},
	Redact:      {"fields"},
}

// Reasons of a Verdict.
const (
	ReasonAllow             = "allow"
	ReasonPolicy            = "policy"             // the policy says no
	ReasonUnauthenticated   = "unauthenticated"    // it would ask again after a sign-in
	ReasonStepUp            = "step_up"            // it would ask again after a stronger or fresher sign-in
	ReasonUndefined         = "undefined"          // it says nothing
	ReasonError             = "error"              // it failed, or what it says is no decision
	ReasonTimeout           = "timeout"            // it took too long
	ReasonUnknownObligation = "unknown_obligation" // it demands what nobody carries out
)

// Verdict is what the gateway acts on. It is immutable and may be shared between requests.
type Verdict struct {
	Decision Decision
	JSON     []byte // the decision document for the record, at most MaxDecision bytes
	Allow    bool   // Decision.Allow
	Reason   string // one of the constants above
	Err      error  // with error, timeout and unknown_obligation: what happened
	Memo     bool   // the answer was remembered from an equal request
}

// ReauthorizeEvery is how often the decision wants to be made again while the exchange lasts: the shortest time that an
// obligation reauthorize states, or 0 when none does.
func (v *Verdict) ReauthorizeEvery() time.Duration {
	var every time.Duration
	for _, o := range v.Decision.Obligations {
		if d := time.Duration(o.EveryS) * time.Second; o.Type == Reauthorize && (every == 0 || d < every) {
			every = d
		}
	}
	return every
}

// RateLimits are the rates that an allowed request counts against, with the classes it counts in: the obligation's own, or
// the rule that allows the request. All must hold. Two of one class are two counts if they are of different rates.
func (v *Verdict) RateLimits() iter.Seq2[string, *Obligation] {
	return func(yield func(string, *Obligation) bool) {
		for i := range v.Decision.Obligations {
			o := &v.Decision.Obligations[i]
			if o.Type == RateLimit && !yield(cmp.Or(o.Class, v.Decision.rule()), o) {
				return
			}
		}
	}
}

// SessionTerm is how old a sign-in and how long a pause the decision bears at most: the shortest that an obligation session
// states, or 0 when none does.
func (v *Verdict) SessionTerm() (maxAge, idle time.Duration) {
	for i := range v.Decision.Obligations {
		if o := &v.Decision.Obligations[i]; o.Type == SessionTerm {
			maxAge, idle = shorter(maxAge, o.MaxAgeS), shorter(idle, o.IdleS)
		}
	}
	return maxAge, idle
}

// StepUp is the sign-in that the decision asks for: all that its obligations step_up state. Of two lists of classes what
// both have is left, and the first where that is nothing, which the other then refuses.
func (v *Verdict) StepUp() (mfa bool, acr []string, maxAge time.Duration) {
	for i := range v.Decision.Obligations {
		o := &v.Decision.Obligations[i]
		if o.Type != StepUp {
			continue
		}
		mfa, maxAge = mfa || o.MFA, shorter(maxAge, o.MaxAgeS)
		both := slices.DeleteFunc(slices.Clone(o.ACR), func(class string) bool { return !slices.Contains(acr, class) })
		switch {
		case acr == nil:
			acr = o.ACR
		case len(both) > 0:
			acr = both
		}
	}
	return mfa, acr, maxAge
}

// shorter is the shorter of a time and one in seconds; 0 is none.
func shorter(d time.Duration, s int64) time.Duration {
	other := time.Duration(s) * time.Second
	if d == 0 || other != 0 && other < d {
		return other
	}
	return d
}

// rule is the first that the reasons name.
func (d *Decision) rule() string {
	for i := range d.Reasons {
		if d.Reasons[i].Rule != "" {
			return d.Reasons[i].Rule
		}
	}
	return ""
}

// MaxDecision bounds the decision document, so that it fits its record together with any input.
const MaxDecision = 4 << 10

// verdictOf judges what the evaluation yielded; enforced are the obligations the gateway carries out.
func verdictOf(result *ast.Term, enforced []string) *Verdict {
	if result == nil {
		return doubt(ReasonUndefined, errors.New("the policy gave no decision"))
	}
	d, err := decodeDecision(result.Value)
	if u, ok := errors.AsType[*unknownObligationError](err); ok {
		return doubt(ReasonUnknownObligation, u)
	}
	if errors.Is(err, errNoAllow) {
		return doubt(ReasonUndefined, err)
	}
	if err != nil {
		return doubt(ReasonError, err)
	}
	steps := slices.ContainsFunc(d.Obligations, func(o Obligation) bool { return o.Type == StepUp })
	for _, o := range d.Obligations {
		if d.Allow && !steps && !slices.Contains(enforced, o.Type) {
			return doubt(ReasonUnknownObligation, &unknownObligationError{o.Type})
		}
	}
	if steps {
		d.Allow = false // until the sign-in is as strong as the policy wants it
	}
	return conclude(d, d.reason(steps))
}

func (d *Decision) reason(steps bool) string {
	switch {
	case d.Allow:
		return ReasonAllow
	case steps:
		return ReasonStepUp
	case slices.ContainsFunc(d.Reasons, func(r Reason) bool { return r.Code == ReasonUnauthenticated }):
		return ReasonUnauthenticated
	}
	return ReasonPolicy
}

func conclude(d Decision, reason string) *Verdict {
	doc, err := json.Marshal(d)
	if err != nil {
		return doubt(ReasonError, err)
	}
	if len(doc) > MaxDecision {
		return doubt(ReasonError, fmt.Errorf("the decision takes %d bytes; at most %d fit", len(doc), MaxDecision))
	}
	return &Verdict{Decision: d, JSON: doc, Allow: d.Allow, Reason: reason}
}

// doubtful is what people read when the policy gave no clear answer.
const doubtful = "The access policy gave no clear answer, so the answer is no."

// doubt is the no that follows from anything but a clear answer.
func doubt(reason string, err error) *Verdict {
	d := Decision{Reasons: []Reason{{Code: reason, User: doubtful, Admin: cut(clean(err.Error()))}}}
	doc, marshalErr := json.Marshal(d)
	if marshalErr != nil {
		panic("BUG: decision: " + marshalErr.Error())
	}
	return &Verdict{Decision: d, JSON: doc, Reason: reason, Err: err}
}

var errNoAllow = errors.New("the decision says nothing about allow")

type unknownObligationError struct{ kind string }

func (e *unknownObligationError) Error() string {
	return fmt.Sprintf("the policy demands the obligation %q, which is not carried out here", e.kind)
}

// decodeDecision reads a decision document. Only boolean true allows; everything else must be of its type, since a
// misspelt field would otherwise be a restriction that silently does not hold.
func decodeDecision(v ast.Value) (Decision, error) {
	var d Decision
	o, ok := v.(ast.Object)
	if !ok {
		return d, fmt.Errorf("the decision is no object: %s", ast.ValueName(v))
	}
	if o.Get(keyAllow) == nil {
		return d, errNoAllow
	}
	err := o.Iter(func(k, v *ast.Term) (err error) {
		name, _ := k.Value.(ast.String)
		switch name {
		case "allow":
			d.Allow, err = decodeBool(v)
		case "reasons":
			d.Reasons, err = decodeList(v, decodeReason)
		case "obligations":
			d.Obligations, err = decodeList(v, decodeObligation)
		case "labels":
			d.Labels, err = decodeMap(v)
		default:
			return fmt.Errorf("the decision has an unknown field %v", k)
		}
		return in(string(name), err)
	})
	return d, err
}

var keyAllow = key("allow")

func decodeReason(v *ast.Term) (r Reason, err error) {
	err = decodeFields(v, func(name string, v *ast.Term) (err error) {
		switch name {
		case "code":
			r.Code, err = decodeString(v)
		case "rule":
			r.Rule, err = decodeString(v)
		case "user":
			r.User, err = decodeString(v)
		case "admin":
			r.Admin, err = decodeString(v)
		default:
			return fmt.Errorf("unknown field %q", name)
		}
		return in(name, err)
	})
	return r, err
}

func decodeObligation(v *ast.Term) (o Obligation, err error) {
	typeTerm := v.Get(keys.type_)
	if typeTerm == nil {
		return o, errors.New("an obligation without type")
	}
	if o.Type, err = decodeString(typeTerm); err != nil {
		return o, in("type", err)
	}
	fields, known := obligationFields[o.Type]
	if !known {
		return o, &unknownObligationError{o.Type}
	}
	err = decodeFields(v, func(name string, v *ast.Term) (err error) {
		if name == "type" {
			return nil
		}
		if !slices.Contains(fields, name) {
			return &unknownObligationError{o.Type + "." + name}
		}
		switch name {
		case "mfa":
			o.MFA, err = decodeBool(v)
		case "acr":
			o.ACR, err = decodeList(v, decodeString)
		case "max_age_s":
			o.MaxAgeS, err = decodeInt(v)
		case "idle_s":
			o.IdleS, err = decodeInt(v)
		case "requests":
			o.Requests, err = decodeInt(v)
		case "per_s":
			o.PerS, err = decodeInt(v)
		case "class":
			o.Class, err = decodeString(v)
		case "every_s":
			o.EveryS, err = decodeInt(v)
		case "set":
			o.Set, err = decodeMap(v)
		case "fields":
			o.Fields, err = decodeList(v, decodeString)
		}
		return in(name, err)
	})
	if err == nil {
		err = o.check()
	}
	return o, err
}

// Bounds of obligations.
const (
	maxEveryS   = 24 * 60 * 60 // no session need last longer than a day
	maxRequests = 1_000_000
	maxPerS     = 24 * 60 * 60
	maxClass    = 64 // bytes
	maxTermS    = 366 * 24 * 60 * 60
)

// check refuses an obligation that could not be kept, or would demand nothing.
func (o *Obligation) check() error {
	switch o.Type {
	case Reauthorize:
		return bounded("every_s", o.EveryS, maxEveryS)
	case RateLimit:
		if len(o.Class) > maxClass {
			return in("class", fmt.Errorf("want at most %d bytes", maxClass))
		}
		return errors.Join(bounded("requests", o.Requests, maxRequests), bounded("per_s", o.PerS, maxPerS))
	case SessionTerm:
		if o.MaxAgeS == 0 && o.IdleS == 0 {
			return errors.New("session: want max_age_s or idle_s")
		}
		return errors.Join(bounded("max_age_s", cmp.Or(o.MaxAgeS, 1), maxTermS), bounded("idle_s", cmp.Or(o.IdleS, 1), maxTermS))
	}
	return nil
}

func bounded(field string, n, most int64) error {
	if n < 1 || n > most {
		return in(field, fmt.Errorf("want 1 to %d", most))
	}
	return nil
}

func decodeFields(v *ast.Term, field func(name string, v *ast.Term) error) error {
	o, ok := v.Value.(ast.Object)
	if !ok {
		return errWant("an object", v)
	}
	return o.Iter(func(k, v *ast.Term) error {
		name, ok := k.Value.(ast.String)
		if !ok {
			return errWant("a field name", k)
		}
		return field(string(name), v)
	})
}

// decodeList reads an array or a set; partial rules build sets.
func decodeList[T any](v *ast.Term, element func(*ast.Term) (T, error)) (list []T, err error) {
	add := func(v *ast.Term) error {
		e, err := element(v)
		list = append(list, e)
		return err
	}
	switch v := v.Value.(type) {
	case *ast.Array:
		return list, v.Iter(add)
	case ast.Set:
		return list, v.Iter(add) // in sorted order
	}
	return nil, errWant("a list", v)
}

func decodeMap(v *ast.Term) (map[string]string, error) {
	m := make(map[string]string)
	err := decodeFields(v, func(name string, v *ast.Term) (err error) {
		m[name], err = decodeString(v)
		return in(name, err)
	})
	return m, err
}

func decodeBool(v *ast.Term) (bool, error) {
	b, ok := v.Value.(ast.Boolean)
	if !ok {
		return false, errWant("true or false", v)
	}
	return bool(b), nil
}

func decodeString(v *ast.Term) (string, error) {
	s, ok := v.Value.(ast.String)
	if !ok {
		return "", errWant("a string", v)
	}
	return string(s), nil
}

func decodeInt(v *ast.Term) (int64, error) {
	n, ok := v.Value.(ast.Number)
	if !ok {
		return 0, errWant("a whole number", v)
	}
	i, ok := n.Int64()
	if !ok || i < 0 {
		return 0, errWant("a whole number that is not negative", v)
	}
	return i, nil
}

func errWant(want string, got *ast.Term) error {
	return fmt.Errorf("want %s, got %s", want, ast.ValueName(got.Value))
}

// in says where a decoding error is.
func in(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}
