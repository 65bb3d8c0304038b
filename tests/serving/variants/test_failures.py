"""Which variant's requests failed is counted; what a caller got wrong is nobody's failure."""

import asyncio


class Failing:
    def __init__(self, predictor):
        self.form, self._predictor = predictor.form, predictor
        self.fails = False

    def predict(self, rows):
        if self.fails:
            raise ZeroDivisionError("secret")
        return self._predictor.predict(rows)


def test_a_request_that_fails_is_counted_for_the_variant_that_took_it(serving):
    made = []

    def wrap(predictor, role):
        made.append(Failing(predictor))
        return made[-1]

    async def test():
        async with serving("champion=1", "3=0", wrap=wrap) as server:

            def failed(variant, version):
                labels = {"model": "prices", "version": str(version), "variant": variant}
                cells = server.meters.cells(
                    "charkha_prediction_failures_total", **labels, role="live"
                )
                return cells[0]

            assert (await server.ask(1)).status_code == 200
            assert (await server.http.post("/predict", json={"area": "x"})).status_code == 422
            assert failed("champion", 2) == 0
            made[0].fails = True
            for _ in range(3):
                assert (await server.ask(1)).status_code == 500
            assert (failed("champion", 2), failed("v3", 3)) == (3, 0)

    asyncio.run(test())
