package matrix

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"sallyport/policy/review/directory"
)

// BenchmarkCompany compares two policies on 40 apps, every one of which was changed, for 400 people.
func BenchmarkCompany(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	from := &world{own: map[string]string{}, zone: "UTC"}
	for i := range 40 {
		a := randomApp(r, "app-"+strconv.Itoa(i))
		for range 3 {
			a.Access = append(a.Access, randomRule(r))
		}
		from.apps = append(from.apps, a)
		if i%5 == 0 {
			from.own[a.Name] = randomOwn(r)
		}
	}
	to := from.copied()
	for i := range to.apps {
		to.apps[i].Access[r.IntN(len(to.apps[i].Access))] = randomRule(r)
		if i%10 == 0 {
			to.own[to.apps[i].Name] = randomOwn(r)
		}
	}
	people := companyOf(r, 400)
	f, g := from.engine(b), to.engine(b)
	for b.Loop() {
		result, err := Run(b.Context(), Config{From: f, To: g, People: people, Now: testNow})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(result.Evaluations), "evaluations")
		b.ReportMetric(float64(len(result.Findings)), "findings")
		b.ReportMetric(float64(len(result.Incomplete)), "incomplete")
	}
}

func companyOf(r *rand.Rand, n int) []directory.Person {
	var people []directory.Person
	for len(people) < n {
		for _, p := range randomPeople(r) {
			p.Name = fmt.Sprintf("person-%d", len(people))
			p.ID = "corp|" + p.Name
			p.Groups = append(p.Groups, fmt.Sprintf("team-%d", r.IntN(30)), fmt.Sprintf("site-%d", r.IntN(5)))
			people = append(people, p)
		}
	}
	return people[:n]
}
