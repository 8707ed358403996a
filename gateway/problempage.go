package gateway

import (
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
)

// problemPage is what people read where signing in or out does not simply go on.
func (x *exchange) problemPage(p *signin.Problem) ui.Page {
	switch p.Code {
	case signin.CodeSignedOut:
		return x.signedOutPage(p)
	case signin.CodeChooseProvider:
		return choosePage(p)
	}
	page := ui.Message{Tone: toneOf(p.Code), Label: labelOf(p.Code), Title: p.Title, Text: p.Text, FormAction: x.snap.SignIn.FormOrigins()}
	if page.Tone == ui.Problem { // what went as it should is no reason to write to anybody
		page.Reference = x.id
	}
	if p.Advice != "" {
		page.Advice = []string{p.Advice}
	}
	if p.Action != nil {
		page.Actions = append(page.Actions, ui.Action(*p.Action))
	}
	for _, choice := range p.Choices {
		page.Actions = append(page.Actions, ui.Action(choice))
	}
	return page
}

func (x *exchange) signedOutPage(p *signin.Problem) ui.Page {
	if p.App != "" {
		return ui.SignedOut{App: p.App, Portal: x.snap.portalURL()}
	}
	return ui.SignedOut{SignIn: x.snap.portalURL()}
}

func choosePage(p *signin.Problem) ui.Page {
	page := ui.Choose{App: p.App}
	for _, choice := range p.Choices {
		page.Providers = append(page.Providers, ui.Action(choice))
	}
	if form := p.Email; form != nil {
		page.FormAction = form.Origins
		page.Email = ui.EmailForm{URL: form.URL, Value: form.Value, Problem: form.Error}
		for _, hidden := range form.Hidden {
			page.Email.Hidden = append(page.Email.Hidden, ui.Field(hidden))
		}
	}
	return page
}

// toneOf tells what went as it should from what did not.
func toneOf(code string) ui.Tone {
	switch code {
	case signin.CodeProviderSignedOut:
		return ui.Done
	case signin.CodeConfirmSignOut, signin.CodeManyTabs, signin.CodeOtherProvider, signin.CodeStillSignedIn, signin.CodeProviderStays:
		return ui.Neutral
	}
	return ui.Problem
}

func labelOf(code string) string {
	switch code {
	case signin.CodeProviderSignedOut:
		return "Signed out"
	case signin.CodeConfirmSignOut, signin.CodeStillSignedIn, signin.CodeProviderStays, signin.CodeCrossOrigin:
		return "Sign-out"
	}
	return "Sign-in"
}
