package gateway

import (
	"errors"
	"net/http"
	"slices"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
)

// maxDevices bounds the sessions on one page.
const maxDevices = 100

// codeSessionEnded is the control record of a session that ends before its time, for its reason.
const codeSessionEnded = "session_ended"

// sessionNotices tell what was done; the page is told by one of these words, since anybody can write an address.
var sessionNotices = map[string]string{
	"app":     "You are signed out of that app in this browser.",
	"session": "That session has ended.",
	"others":  "All your other sessions have ended.",
}

// serveSessions shows people where they are signed in and ends what they choose.
func (x *exchange) serveSessions() error {
	if in, err := x.enterPortal(signin.SessionsPath); !in {
		return err
	}
	if x.reads() {
		return x.showSessions()
	}
	if err := x.portalForm(signin.SessionsPath); err != nil {
		return err
	}
	form := x.r.PostForm
	switch form.Get("do") {
	case "app":
		return x.leaveApp(form.Get("session"), form.Get("host"))
	case "session":
		return x.endOne(form.Get("session"))
	case "others":
		if err := x.endOthers(); err != nil {
			return err
		}
		return x.changed(signin.SessionsPath, "others")
	case "all":
		if err := x.endOthers(); err != nil {
			return err
		}
		return x.snap.SignIn.SignOut(x.w, x.r, x.snap.AuthHost) // this one, with its cookie
	}
	return x.unreadable(signin.SessionsPath)
}

func (x *exchange) showSessions() error {
	all, err := x.ownSessions()
	if err != nil {
		return err
	}
	page := ui.Devices{Frame: x.frame(signin.SessionsPath), Notice: sessionNotices[x.r.URL.Query().Get("done")], Action: signin.SessionsPath,
		More: max(len(all)-maxDevices, 0)}
	if name := x.session.Identity.Provider; x.snap.SignIn.EndsAt(name) {
		page.Provider = x.snap.SignIn.ProviderTitle(name)
	}
	for _, s := range all[:min(len(all), maxDevices)] {
		page.Sessions = append(page.Sessions, x.device(&s))
	}
	x.server.pages.Render(x.w, http.StatusOK, page)
	return nil
}

// ownSessions are the person's, this one first and then by when they were last used.
func (x *exchange) ownSessions() ([]session.Session, error) {
	all, err := x.server.portal.Sessions.List(x.ctx, session.Filter{Subject: x.session.Identity.ID()})
	if err != nil {
		return nil, sessionsUnavailable(err)
	}
	slices.SortFunc(all, func(a, b session.Session) int {
		switch {
		case a.ID == x.session.ID:
			return -1
		case b.ID == x.session.ID:
			return 1
		}
		return b.Seen.Compare(a.Seen)
	})
	return all, nil
}

// ownSession is the person's session of that id. Whoever's it is says the store; an id that somebody sent says nothing.
func (x *exchange) ownSession(id string) (*session.Session, error) {
	if id == "" {
		return nil, x.notYours(signin.SessionsPath, "session")
	}
	found, err := x.server.portal.Sessions.List(x.ctx, session.Filter{ID: id, Subject: x.session.Identity.ID()})
	if err != nil {
		return nil, sessionsUnavailable(err)
	}
	if len(found) != 1 || found[0].Identity.ID() != x.session.Identity.ID() {
		return nil, x.notYours(signin.SessionsPath, "session")
	}
	return &found[0], nil
}

// ownEnd is what the record of a session that its person ended says beyond the common fields.
type ownEnd struct {
	By       string `json:"by,omitempty"`   // the session from which it was ended
	Host     string `json:"host,omitempty"` // of the one app
	Provider string `json:"provider"`
	Address  string `json:"address,omitempty"` // from where that session began
}

// leaveApp ends what a session has on one app host. Where the sign-in goes on, the app opens again without asking.
func (x *exchange) leaveApp(id, host string) error {
	s, err := x.ownSession(id)
	if err != nil {
		return err
	}
	app := x.appAt(host)
	if app == nil {
		return x.notYours(signin.SessionsPath, "app")
	}
	if err := x.recordOwn(audit.Record{Code: "sign_out_app", App: string(app.Name), Session: s.ID}, ownEnd{Host: app.Host, Provider: s.Identity.Provider, Address: s.Address}); err != nil {
		return err
	}
	if err := x.server.portal.Sessions.Leave(x.ctx, s.ID, app.Host); err != nil && !errors.Is(err, session.ErrNoSession) {
		return sessionsUnavailable(err)
	}
	return x.changed(signin.SessionsPath, "app")
}

func (x *exchange) appAt(host string) *App {
	for _, app := range x.snap.apps {
		if app.Host == host && host != "" {
			return app
		}
	}
	return nil
}

func (x *exchange) endOne(id string) error {
	s, err := x.ownSession(id)
	if err != nil {
		return err
	}
	if s.ID == x.session.ID {
		return x.snap.SignIn.SignOut(x.w, x.r, x.snap.AuthHost)
	}
	if err := x.endSession(s); err != nil {
		return err
	}
	return x.changed(signin.SessionsPath, "session")
}

// endOthers ends every session of the person but this one, each on record before it ends. Sessions that are made
// meanwhile are not among them: the person has just made them.
func (x *exchange) endOthers() error {
	all, err := x.ownSessions()
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.ID == x.session.ID {
			continue
		}
		if err := x.endSession(&s); err != nil {
			return err
		}
	}
	return nil
}

func (x *exchange) endSession(s *session.Session) error {
	if err := x.recordOwn(audit.Record{Code: codeSessionEnded, Reason: session.SignedOut, Session: s.ID}, ownEnd{By: x.session.ID, Provider: s.Identity.Provider, Address: s.Address}); err != nil {
		return err
	}
	_, err := x.server.portal.Sessions.End(x.ctx, session.Filter{ID: s.ID, Subject: x.session.Identity.ID()}, session.SignedOut)
	if err != nil && !errors.Is(err, session.ErrNoSession) {
		return sessionsUnavailable(err)
	}
	return nil
}

// device is a session as its person sees it.
func (x *exchange) device(s *session.Session) ui.Device {
	d := ui.Device{ID: s.ID, Here: s.ID == x.session.ID, Name: browserName(s.UserAgent), Address: s.Address, Place: placeInWords(s),
		Provider: x.snap.SignIn.ProviderTitle(s.Identity.Provider), Since: ui.MomentOf(s.Created, x.start), Seen: ui.MomentOf(s.Seen, x.start)}
	if d.Here {
		d.Seen = ui.MomentOf(x.start, x.start)
	}
	for _, host := range s.Hosts {
		if app := x.appAt(host); app != nil {
			d.Apps = append(d.Apps, ui.DeviceApp{Name: app.DisplayName(), Host: host})
		}
	}
	slices.SortFunc(d.Apps, func(a, b ui.DeviceApp) int { return compareNames(a.Name, b.Name) })
	return d
}
