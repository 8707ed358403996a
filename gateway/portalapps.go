package gateway

import (
	"net/http"
	"slices"

	"sallyport/gateway/ui"
	"sallyport/policy"
)

// serveApps lists the apps that the person may open.
func (x *exchange) serveApps() error {
	if err := x.onlyGet(); err != nil {
		return err
	}
	if in, err := x.enterPortal("/"); !in {
		return err
	}
	page := ui.Portal{Frame: x.frame("/")}
	for _, app := range x.openApps() {
		page.Apps = append(page.Apps, ui.AppTile{Name: app.DisplayName(), URL: x.snap.URL(app.Host, app.Path), Host: app.Host, Description: app.Description})
	}
	x.server.pages.Render(x.w, http.StatusOK, page)
	return nil
}

// openApps are the apps whose start page the policy would show to this person now, or once they have proved themselves
// anew, by the names that people read. Nothing is opened by asking, so nothing is recorded.
func (x *exchange) openApps() []*App {
	var open []*App
	for _, listed := range x.snap.Routes.Apps() {
		app := x.snap.apps[listed.Name]
		if x.mayOpen(app) {
			open = append(open, app)
		}
	}
	slices.SortFunc(open, func(a, b *App) int {
		return compareNames(a.DisplayName(), b.DisplayName())
	})
	return open
}

func (x *exchange) mayOpen(app *App) bool {
	in := x.inputFor(app, app.StartPath())
	in.Resource.Host = app.Host
	// It is asked about reading the app's page, also while a form of the portal is answered.
	in.Action = policy.Action{Name: policy.ActionRead, Method: http.MethodGet, Protocol: in.Action.Protocol}
	in.Context.Request.Origin, in.Context.Request.CrossOrigin, in.Context.Request.CrossSiteUnsafe = "", false, new(false)
	if in.Bound() != nil {
		return false
	}
	v := x.snap.Policy.Decide(x.ctx, in)
	// Certificates are shown to the app's host, and not here; a second factor is asked for when the app is opened.
	return v.Allow || v.Reason == policy.ReasonStepUp || deniedForCertificate(v)
}
