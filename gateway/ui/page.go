package ui

import "slices"

// Page is what can be rendered: one of [Portal], [Devices], [Tokens], [Choose], [Denied], [SignedOut], [Unavailable] and
// [Message].
type Page interface{ sheet() sheet }

// Portal lists the apps that a signed-in person may open.
type Portal struct {
	Frame
	Apps []AppTile // in the order to show
}

// AppTile is one app of the portal.
type AppTile struct {
	Name, URL   string
	Host        string // shown below the name
	Description string // a sentence; may be empty
}

// Denied tells a signed-in person that the policy refused a request.
type Denied struct {
	App          string   // the app's name
	Owner        string   // who answers for the app; empty: the advice speaks of the app's owner
	Method, Path string   // what was asked for
	Person       string   // who was refused, as shown to that person; empty: not shown
	Reasons      []string // why, in the policy's words for users; empty: that no rule allows it
	Advice       []string // what to do; empty: what usually helps
	Reference    string   // the id to quote, which the audit log knows
	Portal       string   // URL of the portal; empty: no such link
	SignOut      string   // URL the sign-out button posts to, for people with several accounts; empty: no such button
	FormAction   []string // as in [Frame]
	Open         bool     // the person may use the app, and only this request was refused: no other account helps
}

// SignedOut confirms a sign-out.
type SignedOut struct {
	App    string // the app that was signed out of; empty: everywhere
	SignIn string // URL to sign in again; empty: no such link
	Portal string // URL of the portal, where the person is still signed in; empty: no such link
}

// Unavailable tells that an app which the person may open did not answer.
type Unavailable struct {
	App       string
	Reference string
	Retry     string // URL to try again; empty: no such link
	Portal    string // URL of the portal; empty: no such link
}

// Message is every other page, such as a problem with signing in.
type Message struct {
	Tone      Tone
	Label     string   // a word or two above the title; empty: none
	Title     string   // the heading
	Text      string   // what happened
	Why       string   // why it happened; empty: no such part
	Advice    []string // what the person can do; empty: no such part
	Reference string   // the id to quote; empty: none
	Actions   []Action
	// FormAction lists origins besides this host that a form of the page posts to or is redirected to.
	FormAction []string
	// Framed marks the answer to a navigation inside a frame: the page may be shown there, and its links open in a new tab
	// since what they lead to may not. It must offer links only.
	Framed bool
}

// Action is a link, or with Method "POST" a button that sends an empty form.
type Action struct{ Label, URL, Method string }

// Tone colours a message's label and chooses its sign.
type Tone string

const (
	Neutral Tone = ""        // a plain statement
	Refused Tone = "refused" // the answer is no
	Problem Tone = "problem" // something does not work
	Done    Tone = "done"    // something is finished
)

// sheet is what the templates read.
type sheet struct {
	Frame      *Frame   // set on the pages of a signed-in person; nil: a narrow page
	Portal     *Portal  // one of these three is set with Frame
	Devices    *Devices // …
	Tokens     *Tokens  // …
	Choose     *Choose  // set on the page that asks where to sign in
	Tone       Tone
	Label      string
	Title      string
	Text       string
	Why        []string
	Advice     []string
	Facts      []fact
	Actions    []Action
	FormAction []string
	Framed     bool
}

type fact struct {
	Name, Value string
	Code        bool // a path or an id
}

func (p Portal) sheet() sheet {
	return sheet{Frame: &p.Frame, Portal: &p, Title: "Your apps", FormAction: p.FormAction}
}

func (p Denied) sheet() sheet {
	s := sheet{
		Tone:       Refused,
		Label:      "Access denied",
		Title:      p.App + " is not open to you",
		Text:       "You are signed in, and the access policy refused this request.",
		Why:        p.Reasons,
		Advice:     p.Advice,
		FormAction: p.FormAction,
	}
	if p.Person == "" {
		s.Text = "The access policy refused this request."
	}
	if p.Open {
		s.Label, s.Title, s.Text = "Not passed on", "This request was refused", "You may use "+p.App+", but this one request was not passed on to it."
	}
	if len(s.Why) == 0 {
		s.Why = []string{"No rule of the access policy allows this request."}
	}
	if len(s.Advice) == 0 {
		s.Advice = p.advice()
	}
	s.addFact("Asked for", join(p.Method, p.Path), true)
	s.addFact("Signed in as", p.Person, false)
	s.addFact("Reference", p.Reference, true)
	s.addAction("Your apps", p.Portal, "GET")
	if !p.Open {
		s.addAction("Sign out", p.SignOut, "POST")
	}
	return s
}

func (p Denied) advice() []string {
	owner := p.Owner
	if owner == "" {
		owner = "the owner of " + p.App
	}
	if p.Open {
		return []string{"If what you did is ordinary, tell " + owner + " and quote the reference below."}
	}
	advice := []string{"If you need access, ask " + owner + " and quote the reference below."}
	if p.SignOut != "" {
		advice = append(advice, "If you have another account that may open this, sign out and use that one.")
	}
	return advice
}

func (p SignedOut) sheet() sheet {
	s := sheet{
		Tone:   Done,
		Label:  "Signed out",
		Title:  "You are signed out everywhere",
		Text:   "Your session has ended in every app on this browser. Open pages stop working within seconds.",
		Advice: []string{"On a shared device sign out at your identity provider too: it may still know you in this browser."},
	}
	if p.App != "" {
		s.Title = "You are signed out of " + p.App
		s.Text = "In your other apps you are still signed in."
		s.Advice = []string{"To end it everywhere, sign out on the page of your apps."}
	}
	s.addAction("Sign in again", p.SignIn, "GET")
	s.addAction("Your apps", p.Portal, "GET")
	return s
}

func (p Unavailable) sheet() sheet {
	s := sheet{
		Tone:  Problem,
		Label: "App unavailable",
		Title: p.App + " is not answering",
		Text:  "You may open this app, but it did not give an answer.",
		Advice: []string{
			"Wait a moment and try again.",
			"If it keeps happening, tell the owner of " + p.App + " and quote the reference below.",
		},
	}
	s.addFact("Reference", p.Reference, true)
	s.addAction("Try again", p.Retry, "GET")
	s.addAction("Your apps", p.Portal, "GET")
	return s
}

func (p Message) sheet() sheet {
	s := sheet{
		Tone:       p.Tone,
		Label:      p.Label,
		Title:      p.Title,
		Text:       p.Text,
		Advice:     p.Advice,
		Actions:    slices.Clone(p.Actions),
		FormAction: p.FormAction,
		Framed:     p.Framed,
	}
	if p.Why != "" {
		s.Why = []string{p.Why}
	}
	s.addFact("Reference", p.Reference, true)
	return s
}

func (s *sheet) addFact(name, value string, code bool) {
	if value != "" {
		s.Facts = append(s.Facts, fact{name, value, code})
	}
}

func (s *sheet) addAction(label, url, method string) {
	if url != "" {
		s.Actions = append(s.Actions, Action{label, url, method})
	}
}

func join(method, path string) string {
	if method == "" || path == "" {
		return method + path
	}
	return method + " " + path
}
