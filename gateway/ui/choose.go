package ui

// Choose asks a person where they have their account: by their e-mail address, or by name.
type Choose struct {
	App       string // what they are about to open; empty: their apps
	Email     EmailForm
	Providers []Action // links
	// FormAction lists the origins that the answer to the form redirects to.
	FormAction []string
}

// EmailForm asks for an e-mail address, which says whose account it is.
type EmailForm struct {
	URL     string  // where it is sent; empty: nobody is asked
	Hidden  []Field // sent with it
	Value   string  // what was filled in before
	Problem string  // what is wrong with that; empty: nothing
}

// Field is a value that a form sends along.
type Field struct{ Name, Value string }

func (p Choose) sheet() sheet {
	s := sheet{Label: "Sign-in", Title: "Sign in", Choose: &p, FormAction: p.FormAction}
	if p.App != "" {
		s.Title = "Sign in to open " + p.App
	}
	return s
}
