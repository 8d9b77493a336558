from django.http import HttpResponse, JsonResponse

from celery_segment import Analytics, analytics, page, track


def home(request):
    page.delay(name="Home")
    return HttpResponse("welcome")


def buy(request):
    with Analytics().batch():
        track.delay(event="Item Purchased", properties={"sku": request.POST["sku"]})
        track(event="Cart Emptied")
    receipt = track.apply_async(("u", "Paid"), ignore_result=False)
    assert receipt.get(timeout=5) == receipt.id
    return HttpResponse("thank you")


def later(request):
    track.apply_async(("u", "Reminded"), countdown=3600)
    analytics.Client(source="default").track("u", "Looked")
    return HttpResponse("later")


async def leave(request):
    track.delay(event="Left")
    return HttpResponse("bye")


def figures(request):
    shop = Analytics()
    shop.pause()
    shop.resume()
    letters = [letter.id for letter in shop.dead_letters]
    return JsonResponse({"waiting": shop.stats().waiting, "dead": letters})
