package explain

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
)

// Change is one thing about a request that would have to be otherwise.
type Change struct {
	Field string `json:"field"` // of the input
	To    string `json:"to"`
	Text  string `json:"text"` // what would have to be done, in words

	weight int
	apply  func(in *policy.Input)
}

// Weights of changes: what a person can do at once is nearer than what others must grant, and that is nearer than another
// request.
const (
	weightSignIn = 1 + iota // sign in again, and better
	weightPlace             // at another time, from elsewhere
	weightDevice
	weightGroup
	weightClaim
	weightPerson
	weightOther
	weightRequest = 20 // another method or path
)

// weigh is how far away a change of a field is; 0: nobody who asks can change it.
func weigh(field string) int {
	for _, w := range []struct {
		prefix string
		weight int
	}{
		{"subject.authn.", weightSignIn}, {"subject.session.", weightSignIn},
		{"context.time_ns", 0}, {"context.request.id", 0}, {"context.shield", 0},
		{"context.hour", weightPlace}, {"context.weekday", weightPlace}, {"context.time", weightPlace}, {"context.client.", weightPlace},
		{"subject.device", weightDevice}, {"subject.cert", weightDevice}, {"subject.groups_incomplete", 0},
		{"subject.groups", weightGroup}, {"subject.claims", weightClaim}, {"subject.", weightPerson},
		{"action.", weightRequest}, {"resource.path", weightRequest}, {"resource.segments", weightRequest}, {"resource.query", weightRequest},
		{"context.", weightOther},
	} {
		if strings.HasPrefix(field, w.prefix) {
			return w.weight
		}
	}
	return 0 // resource.owner and the like are the app's
}

// set is the change of a field to a JSON value; false if there is none that could be made.
func (s *Subject) set(field string, value any) (Change, bool) {
	c := Change{Field: field, To: words(value), weight: weigh(field)}
	c.Text = field + ": " + cmp.Or(c.To, "absent")
	c.apply = func(in *policy.Input) { put(in, field, value) }
	switch field {
	case "subject.type":
		if value == policy.TypeUser {
			return signIn(), true
		}
	case "resource.path":
		return askFor(c.To), true
	case "resource.segments":
		list, _ := value.([]any)
		var path strings.Builder
		for _, segment := range list {
			path.WriteString("/" + words(segment))
		}
		return askFor(path.String()), true
	case "action.method":
		return useMethod(c.To), true
	case "subject.authn.mfa":
		if value == true {
			c.Text = "sign in with more than one factor"
		}
	case "subject.email":
		c.Text = "have the verified address " + c.To
		c.apply = func(in *policy.Input) { in.Subject.Email, in.Subject.EmailVerified = c.To, true }
	case "subject.authn.acr":
		c.Text = "sign in with the assurance " + c.To
	case "subject.authn.age_s":
		return again(), true
	case "context.hour", "context.weekday":
		return s.moment(field, value)
	}
	return c, c.weight > 0
}

func askFor(path string) Change {
	return Change{Field: "resource.path", To: path, Text: "ask for " + path, weight: weightRequest, apply: func(in *policy.Input) {
		in.Resource.Path, in.Resource.Segments = path, strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	}}
}

func useMethod(method string) Change {
	return Change{Field: "action.method", To: method, Text: "use the method " + method, weight: weightRequest, apply: func(in *policy.Input) {
		in.Action.Method, in.Action.Name = method, policy.ActionName(method, in.Action.Upgrade)
	}}
}

// again is signing in again.
func again() Change {
	return Change{Field: "subject.authn.age_s", To: "0", Text: "sign in again", weight: weightSignIn, apply: func(in *policy.Input) {
		authn := authnOf(in)
		authn.AgeS, authn.Time = policy.AgeOf(0), time.Unix(0, in.Context.TimeNS).UTC().Format(time.RFC3339)
	}}
}

// authnOf is a copy of how the subject signed in, for changing.
func authnOf(in *policy.Input) *policy.Authn {
	authn := new(policy.Authn)
	if in.Subject.Authn != nil {
		*authn = *in.Subject.Authn
	}
	in.Subject.Authn = authn
	return authn
}

// join is becoming a member of a list in the input, such as the groups.
func (s *Subject) join(field string, value any) (Change, bool) {
	c := Change{Field: field, To: words(value), weight: weigh(field), Text: fmt.Sprintf("%s with %s", field, words(value))}
	if field == "subject.groups" {
		c.Text = "be in the group " + c.To
	}
	c.apply = func(in *policy.Input) {
		list, _ := get(documentOf(in), field).([]any)
		put(in, field, append(slices.Clone(list), value))
	}
	return c, c.weight > 0
}

// moment is the next time with an hour or a weekday.
func (s *Subject) moment(field string, value any) (Change, bool) {
	want := words(value)
	return s.when(want, field, func(c *policy.Context) bool {
		return field == "context.hour" && fmt.Sprint(c.Hour) == want || field == "context.weekday" && c.Weekday == want
	})
}

// when is the next time, on the half hour, that something holds; false if it does not within a week.
func (s *Subject) when(to, field string, holds func(c *policy.Context) bool) (Change, bool) {
	c := Change{Field: field, To: to, weight: weightPlace}
	next := func(in *policy.Input) (time.Time, bool) {
		at := time.Unix(0, in.Context.TimeNS).Truncate(halfHour)
		for range week / halfHour {
			at = at.Add(halfHour)
			var trial policy.Context
			if trial.SetTime(at, s.zone); holds(&trial) {
				return at, true
			}
		}
		return at, false
	}
	c.apply = func(in *policy.Input) {
		if at, found := next(in); found {
			in.Context.SetTime(at, s.zone)
		}
	}
	c.Text = "ask at another time: " + to
	switch field {
	case "context.hour":
		c.Text = "ask at " + to + " o'clock (" + s.zone.String() + ")"
	case "context.weekday":
		c.Text = "ask on a " + to
	}
	return c, true
}

const (
	halfHour = 30 * time.Minute
	week     = 7 * 24 * time.Hour
)

// put sets a field of the input by way of its JSON document. What does not fit its type is left as it is.
func put(in *policy.Input, field string, value any) {
	document := documentOf(in)
	object, names := document, strings.Split(field, ".")
	for _, name := range names[:len(names)-1] {
		inner, is := object[name].(map[string]any)
		if !is {
			inner = map[string]any{}
			object[name] = inner
		}
		object = inner
	}
	object[names[len(names)-1]] = value
	if value == nil {
		delete(object, names[len(names)-1])
	}
	text, err := json.Marshal(document)
	if err != nil {
		return
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	changed := new(policy.Input)
	if d.Decode(changed) == nil {
		*in = *changed
	}
}

func get(document map[string]any, path string) any {
	var v any = document
	for name := range strings.SplitSeq(path, ".") {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}
