from asgiref.sync import sync_to_async
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse, StreamingHttpResponse

from celery_segment import identify, page, track


def look(request):
    page.delay(name="Items")
    return HttpResponse("items")


def sign_up(request):
    name = request.POST["name"]
    user = User.objects.create_user(name)
    login(request, user)
    identify.delay(user.pk, {"name": name})
    track.delay(event="Signed Up", properties={"name": name})
    return HttpResponse(str(user.pk))


def buy(request):
    track.delay(event="Item Purchased", properties=request.POST.dict())
    return HttpResponse("bought")


def quiet(request):
    return HttpResponse("nothing")


def thrice(request):
    for event in ("A", "B", "C"):
        track.delay(event=event)
    return HttpResponse("thrice")


def stream(request):
    def parts():
        track.delay("u", "While")
        yield b"part"

    track.delay("u", "Before")
    return StreamingHttpResponse(parts())


def order(request):
    with transaction.atomic():
        track.delay_on_commit("u", "outer", {"path": request.path})
        with transaction.atomic():
            track.delay_on_commit("u", "savepoint")
        try:
            with transaction.atomic():
                track.delay_on_commit("u", "rolled back")
                raise ZeroDivisionError  # noqa: TRY301 - what rolls a savepoint back
        except ZeroDivisionError:
            pass
        if "fail" in request.GET:
            raise ZeroDivisionError
    return HttpResponse("ordered")


async def async_aside(request):
    await sync_to_async(track.delay)(event="Item Purchased")
    return HttpResponse("bought")


async def async_leave(request):
    user = await request.auser()
    await User.objects.filter(pk=user.pk).adelete()
    track.delay(event="Left")
    return HttpResponse("gone")
